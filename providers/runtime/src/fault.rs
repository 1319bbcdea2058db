//! The steps of a pod's start, which a test can make fail one by one (see `setpoint_net::fault`).

pub use setpoint_net::fault::{Fault, NetStep};

setpoint_net::fault_steps! {
    /// The steps by which a sandbox comes to be; first the daemon's, then the shim's, then the daemon's again.
    SandboxStep {
        Directory = "the sandbox's directory",
        Asked = "the spawner's request",
        Detached = "the shim's own session",
        ShimsGroup = "the shims' cgroup",
        Group = "the sandbox's cgroup",
        Limits = "the sandbox's limits",
        Namespaces = "the sandbox's namespaces",
        HostName = "the host name",
        Loopback = "the loopback interface",
        Parameters = "the kernel parameters",
        SharedMemory = "the sandbox's /dev/shm",
        Listening = "the shim's socket",
        Greeted = "the shim's hello",
        Network = "the sandbox's network",
        Held = "the daemon's hold on the shim",
    }
}

setpoint_net::fault_steps! {
    /// The steps by which a container comes to be; first the shim's, then its first process's.
    ContainerStep {
        Group = "the container's cgroup",
        Limits = "the container's limits",
        Directory = "the container's directory",
        Log = "the container's log",
        Streams = "the standard streams",
        Report = "the report socket",
        SharedInit = "the shared PID namespace",
        Prepared = "the first process's limits",
        EnteredGroup = "the entered cgroup",
        CgroupNamespace = "the cgroup namespace",
        Overlay = "the root file system",
        Mounts = "the kernel's file systems",
        Volumes = "the volumes",
        Masks = "the masks",
        Root = "the changed root",
        Accounts = "the image's accounts",
        Filter = "the seccomp filter",
        Session = "the container's session",
        Connected = "the connected streams",
        WorkingDirectory = "the working directory",
        Bounded = "the bounded capabilities",
        Identity = "the user",
        Capabilities = "the held capabilities",
        FollowsShim = "the end with the shim's",
        Filtered = "the loaded filter",
    }
}
