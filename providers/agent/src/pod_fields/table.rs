//! The table: each kind of object inside a pod, its fields, and what becomes of them.

/// What becomes of a field that is set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// It is honoured with everything below it.
    Honoured,
    /// It is honoured; what is below it follows the rows of that kind.
    Into(&'static str),
    /// It is refused.
    Refused(&'static str),
    /// It is refused unless it says nothing (an empty object).
    NotEmpty(&'static str),
    /// It is not used; the client is told.
    Warned(&'static str),
    /// Only these words are honoured.
    Only(&'static [&'static str], &'static str),
    /// This word is not used and the client is told (first text); every other is refused (second).
    OnlyWarned(&'static str, &'static str, &'static str),
    /// Anything but this value is not used; the client is told.
    WarnedUnless(&'static str, &'static str),
    /// `false` is refused.
    RefusedWhenFalse(&'static str),
}

use Rule::{Honoured, Into, NotEmpty, Only, OnlyWarned, Refused, RefusedWhenFalse, Warned, WarnedUnless};

type Rows = &'static [(&'static str, Rule)];

const NO_VOLUME: Rule = Refused(
    "volumes of this kind are not supported; use persistentVolumeClaim, ephemeral, configMap, secret, emptyDir, hostPath, image, projected or downwardAPI",
);
const NO_OWNER: Rule = Refused("the files belong to root; use fsGroup");
const NOT_EPHEMERAL: Rule = NotEmpty("cannot be set for an Ephemeral Container");
const NO_WINDOWS: Rule = Refused("this node runs Linux");
const NO_SELINUX: Rule = Warned("SELinux labels are not applied");
const NO_APPARMOR: Rule = Warned("AppArmor profiles are not applied");

const NO_PREEMPTION: &str = "waiting pods are placed in the order of their priority, but none is preempted";

const BETWEEN_PODS: Rows = &[
    (
        "preferredDuringSchedulingIgnoredDuringExecution",
        Warned("affinity between pods is not considered"),
    ),
    (
        "requiredDuringSchedulingIgnoredDuringExecution",
        Refused("affinity between pods is not considered, so that it cannot be required"),
    ),
];

/// Returns the rows of a kind.
pub(super) fn rules(kind: &str) -> Option<Rows> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, rows)| *rows)
}

pub(super) const KINDS: &[(&str, Rows)] = &[
    (
        "PodSpec",
        &[
            ("activeDeadlineSeconds", Honoured),
            ("affinity", Into("Affinity")),
            ("automountServiceAccountToken", Honoured),
            ("containers", Into("Container")),
            ("dnsConfig", Honoured),
            (
                "dnsPolicy",
                Only(
                    &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
                    "unknown DNS policy",
                ),
            ),
            ("enableServiceLinks", Honoured),
            ("ephemeralContainers", Into("EphemeralContainer")),
            ("evictionResponders", Warned("eviction responders are not asked")),
            ("hostAliases", Honoured),
            ("hostIPC", Honoured),
            ("hostNetwork", Honoured),
            ("hostPID", Honoured),
            ("hostUsers", RefusedWhenFalse("user namespaces are not supported")),
            ("hostname", Honoured),
            ("hostnameOverride", Honoured),
            ("imagePullSecrets", Honoured),
            ("initContainers", Into("Container")),
            ("nodeName", Honoured),
            ("nodeSelector", Honoured),
            ("os", Into("PodOS")),
            ("overhead", Honoured),
            (
                "preemptionPolicy",
                WarnedUnless("PreemptLowerPriority", "pods are not preempted"),
            ),
            ("priority", Warned(NO_PREEMPTION)),
            ("priorityClassName", Warned(NO_PREEMPTION)),
            ("readinessGates", Honoured),
            (
                "resourceClaims",
                Refused("dynamic resource allocation is not supported"),
            ),
            ("resources", Into("ResourceRequirements")),
            (
                "restartPolicy",
                Only(&["Always", "OnFailure", "Never"], "unknown restart policy"),
            ),
            ("runtimeClassName", Honoured),
            (
                "schedulerName",
                WarnedUnless(
                    "default-scheduler",
                    "there is one scheduler only, which takes every pod",
                ),
            ),
            ("schedulingGates", Honoured),
            ("schedulingGroup", Refused("scheduling groups are not supported")),
            ("securityContext", Into("PodSecurityContext")),
            ("serviceAccount", Honoured),
            ("serviceAccountName", Honoured),
            ("setHostnameAsFQDN", Honoured),
            ("shareProcessNamespace", Honoured),
            ("subdomain", Honoured),
            ("terminationGracePeriodSeconds", Honoured),
            ("tolerations", Honoured),
            ("topologySpreadConstraints", Into("TopologySpreadConstraint")),
            ("volumes", Into("Volume")),
        ],
    ),
    (
        "Affinity",
        &[
            ("nodeAffinity", Honoured),
            ("podAffinity", Into("PodAffinity")),
            ("podAntiAffinity", Into("PodAntiAffinity")),
        ],
    ),
    ("PodAffinity", BETWEEN_PODS),
    ("PodAntiAffinity", BETWEEN_PODS),
    (
        "TopologySpreadConstraint",
        &[
            ("labelSelector", Honoured),
            ("matchLabelKeys", Honoured),
            ("maxSkew", Honoured),
            ("minDomains", Honoured),
            ("nodeAffinityPolicy", Honoured),
            ("nodeTaintsPolicy", Honoured),
            ("topologyKey", Honoured),
            (
                "whenUnsatisfiable",
                OnlyWarned(
                    "ScheduleAnyway",
                    "pods are not spread by constraints",
                    "pods are not spread by constraints; use ScheduleAnyway",
                ),
            ),
        ],
    ),
    ("PodOS", &[("name", Only(&["linux"], "this node runs Linux"))]),
    (
        "Container",
        &[
            ("args", Honoured),
            ("command", Honoured),
            ("env", Into("EnvVar")),
            ("envFrom", Honoured),
            ("image", Honoured),
            (
                "imagePullPolicy",
                Only(&["Always", "IfNotPresent", "Never"], "unknown pull policy"),
            ),
            ("lifecycle", Into("Lifecycle")),
            ("livenessProbe", Into("Probe")),
            ("name", Honoured),
            ("ports", Into("ContainerPort")),
            ("readinessProbe", Into("Probe")),
            ("resizePolicy", Honoured),
            ("resources", Into("ResourceRequirements")),
            (
                "restartPolicy",
                Only(&["Always", "OnFailure", "Never"], "unknown restart policy"),
            ),
            ("restartPolicyRules", Into("ContainerRestartRule")),
            ("securityContext", Into("SecurityContext")),
            ("startupProbe", Into("Probe")),
            ("stdin", Honoured),
            ("stdinOnce", Honoured),
            ("terminationMessagePath", Honoured),
            (
                "terminationMessagePolicy",
                Only(&["File", "FallbackToLogsOnError"], "unknown policy"),
            ),
            ("tty", Honoured),
            (
                "volumeDevices",
                Refused("block devices are not supported; mount the volume as a file system"),
            ),
            ("volumeMounts", Into("VolumeMount")),
            ("workingDir", Honoured),
        ],
    ),
    (
        // What the API lets none of them have is refused there with Kubernetes' words; here it would be ignored.
        "EphemeralContainer",
        &[
            ("args", Honoured),
            ("command", Honoured),
            ("env", Into("EnvVar")),
            ("envFrom", Honoured),
            ("image", Honoured),
            (
                "imagePullPolicy",
                Only(&["Always", "IfNotPresent", "Never"], "unknown pull policy"),
            ),
            ("lifecycle", NOT_EPHEMERAL),
            ("livenessProbe", NOT_EPHEMERAL),
            ("name", Honoured),
            ("ports", NOT_EPHEMERAL),
            ("readinessProbe", NOT_EPHEMERAL),
            ("resizePolicy", NOT_EPHEMERAL),
            ("resources", NotEmpty("cannot be set for an Ephemeral Container")),
            ("restartPolicy", NOT_EPHEMERAL),
            ("restartPolicyRules", NOT_EPHEMERAL),
            ("securityContext", Into("SecurityContext")),
            ("startupProbe", NOT_EPHEMERAL),
            ("stdin", Honoured),
            ("stdinOnce", Honoured),
            ("targetContainerName", Honoured),
            ("terminationMessagePath", Honoured),
            (
                "terminationMessagePolicy",
                Only(&["File", "FallbackToLogsOnError"], "unknown policy"),
            ),
            ("tty", Honoured),
            ("volumeDevices", Refused("block devices are not supported")),
            ("volumeMounts", Into("VolumeMount")),
            ("workingDir", Honoured),
        ],
    ),
    (
        "ContainerRestartRule",
        &[
            ("action", Only(&["Restart", "RestartAllContainers"], "unknown action")),
            ("exitCodes", Honoured),
        ],
    ),
    (
        "EnvVar",
        &[
            ("name", Honoured),
            ("value", Honoured),
            ("valueFrom", Into("EnvVarSource")),
        ],
    ),
    (
        "EnvVarSource",
        &[
            ("configMapKeyRef", Honoured),
            ("fieldRef", Honoured),
            ("fileKeyRef", Honoured),
            ("resourceFieldRef", Honoured),
            ("secretKeyRef", Honoured),
        ],
    ),
    (
        "Lifecycle",
        &[
            ("postStart", Into("LifecycleHandler")),
            ("preStop", Into("LifecycleHandler")),
            ("stopSignal", Honoured),
        ],
    ),
    (
        "LifecycleHandler",
        &[
            ("exec", Honoured),
            ("httpGet", Into("HTTPGetAction")),
            ("sleep", Honoured),
            (
                "tcpSocket",
                Warned("hooks by TCP are not supported, nor are they in Kubernetes: it fails when it is run"),
            ),
        ],
    ),
    (
        "Probe",
        &[
            ("exec", Honoured),
            ("failureThreshold", Honoured),
            ("grpc", Honoured),
            ("httpGet", Into("HTTPGetAction")),
            ("initialDelaySeconds", Honoured),
            ("periodSeconds", Honoured),
            ("successThreshold", Honoured),
            ("tcpSocket", Honoured),
            ("terminationGracePeriodSeconds", Honoured),
            ("timeoutSeconds", Honoured),
        ],
    ),
    (
        "ContainerPort",
        &[
            ("containerPort", Honoured),
            ("hostIP", Honoured),
            ("hostPort", Honoured),
            ("name", Honoured),
            ("protocol", Honoured),
        ],
    ),
    (
        "ResourceRequirements",
        &[
            ("claims", Refused("dynamic resource allocation is not supported")),
            ("limits", Honoured),
            ("requests", Honoured),
        ],
    ),
    (
        "SecurityContext",
        &[
            ("allowPrivilegeEscalation", Honoured),
            ("appArmorProfile", NO_APPARMOR),
            ("capabilities", Honoured),
            ("privileged", Honoured),
            ("procMount", Only(&["Default", "Unmasked"], "unknown kind of /proc")),
            ("readOnlyRootFilesystem", Honoured),
            ("runAsGroup", Honoured),
            ("runAsNonRoot", Honoured),
            ("runAsUser", Honoured),
            ("seLinuxOptions", NO_SELINUX),
            ("seccompProfile", Into("SeccompProfile")),
            ("windowsOptions", NO_WINDOWS),
        ],
    ),
    (
        "PodSecurityContext",
        &[
            ("appArmorProfile", NO_APPARMOR),
            ("fsGroup", Honoured),
            ("fsGroupChangePolicy", Honoured),
            ("runAsGroup", Honoured),
            ("runAsNonRoot", Honoured),
            ("runAsUser", Honoured),
            ("seLinuxChangePolicy", NO_SELINUX),
            ("seLinuxOptions", NO_SELINUX),
            ("seccompProfile", Into("SeccompProfile")),
            ("supplementalGroups", Honoured),
            ("supplementalGroupsPolicy", Only(&["Merge", "Strict"], "unknown policy")),
            ("sysctls", Honoured),
            ("windowsOptions", NO_WINDOWS),
        ],
    ),
    (
        "SeccompProfile",
        &[
            ("localhostProfile", Honoured),
            (
                "type",
                Only(
                    &["RuntimeDefault", "Unconfined", "Localhost"],
                    "unknown type of profile",
                ),
            ),
        ],
    ),
    (
        "VolumeMount",
        &[
            ("bindMountOptions", Refused("options of a mount are not supported")),
            ("mountPath", Honoured),
            (
                "mountPropagation",
                Only(&["None", "HostToContainer", "Bidirectional"], "unknown propagation"),
            ),
            ("name", Honoured),
            ("readOnly", Honoured),
            (
                "recursiveReadOnly",
                Only(&["Disabled", "IfPossible", "Enabled"], "unknown kind of read-only"),
            ),
            ("subPath", Honoured),
            ("subPathExpr", Honoured),
        ],
    ),
    (
        "Volume",
        &[
            ("awsElasticBlockStore", NO_VOLUME),
            ("azureDisk", NO_VOLUME),
            ("azureFile", NO_VOLUME),
            ("cephfs", NO_VOLUME),
            ("cinder", NO_VOLUME),
            ("configMap", Into("ConfigMapVolumeSource")),
            ("csi", NO_VOLUME),
            ("downwardAPI", Into("DownwardAPIVolumeSource")),
            ("emptyDir", Into("EmptyDirVolumeSource")),
            ("ephemeral", Honoured),
            ("fc", NO_VOLUME),
            ("flexVolume", NO_VOLUME),
            ("flocker", NO_VOLUME),
            ("gcePersistentDisk", NO_VOLUME),
            ("gitRepo", NO_VOLUME),
            ("glusterfs", NO_VOLUME),
            ("hostPath", Into("HostPathVolumeSource")),
            ("image", Honoured),
            ("iscsi", NO_VOLUME),
            ("name", Honoured),
            ("nfs", NO_VOLUME),
            ("persistentVolumeClaim", Honoured),
            ("photonPersistentDisk", NO_VOLUME),
            ("portworxVolume", NO_VOLUME),
            ("projected", Into("ProjectedVolumeSource")),
            ("quobyte", NO_VOLUME),
            ("rbd", NO_VOLUME),
            ("scaleIO", NO_VOLUME),
            ("secret", Into("SecretVolumeSource")),
            ("storageos", NO_VOLUME),
            ("vsphereVolume", NO_VOLUME),
        ],
    ),
    (
        "EmptyDirVolumeSource",
        &[
            ("medium", Only(&["Memory"], "only disk and Memory are supported")),
            ("mode", Honoured),
            ("sizeLimit", Honoured),
        ],
    ),
    (
        "HostPathVolumeSource",
        &[
            ("path", Honoured),
            (
                "type",
                Only(
                    &[
                        "Directory",
                        "DirectoryOrCreate",
                        "File",
                        "FileOrCreate",
                        "Socket",
                        "CharDevice",
                        "BlockDevice",
                    ],
                    "unknown type of path",
                ),
            ),
        ],
    ),
    (
        "ProjectedVolumeSource",
        &[
            ("defaultMode", Honoured),
            ("defaultUser", NO_OWNER),
            ("sources", Into("VolumeProjection")),
        ],
    ),
    (
        "VolumeProjection",
        &[
            ("clusterTrustBundle", Refused("trust bundles are not supported")),
            ("configMap", Into("ConfigMapProjection")),
            ("downwardAPI", Into("DownwardAPIProjection")),
            ("podCertificate", Refused("pod certificates are not supported")),
            ("secret", Into("SecretProjection")),
            ("serviceAccountToken", Into("ServiceAccountTokenProjection")),
        ],
    ),
    (
        "ConfigMapVolumeSource",
        &[
            ("defaultMode", Honoured),
            ("defaultUser", NO_OWNER),
            ("items", Into("KeyToPath")),
            ("name", Honoured),
            ("optional", Honoured),
        ],
    ),
    (
        "SecretVolumeSource",
        &[
            ("defaultMode", Honoured),
            ("defaultUser", NO_OWNER),
            ("items", Into("KeyToPath")),
            ("optional", Honoured),
            ("secretName", Honoured),
        ],
    ),
    (
        "DownwardAPIVolumeSource",
        &[
            ("defaultMode", Honoured),
            ("defaultUser", NO_OWNER),
            ("items", Into("DownwardAPIVolumeFile")),
        ],
    ),
    (
        "ConfigMapProjection",
        &[("items", Into("KeyToPath")), ("name", Honoured), ("optional", Honoured)],
    ),
    (
        "SecretProjection",
        &[("items", Into("KeyToPath")), ("name", Honoured), ("optional", Honoured)],
    ),
    ("DownwardAPIProjection", &[("items", Into("DownwardAPIVolumeFile"))]),
    (
        "ServiceAccountTokenProjection",
        &[
            ("audience", Honoured),
            ("expirationSeconds", Honoured),
            ("path", Honoured),
            ("user", NO_OWNER),
        ],
    ),
    (
        "KeyToPath",
        &[
            ("key", Honoured),
            ("mode", Honoured),
            ("path", Honoured),
            ("user", NO_OWNER),
        ],
    ),
    (
        "DownwardAPIVolumeFile",
        &[
            ("fieldRef", Honoured),
            ("mode", Honoured),
            ("path", Honoured),
            ("resourceFieldRef", Honoured),
            ("user", NO_OWNER),
        ],
    ),
    (
        "HTTPGetAction",
        &[
            ("host", Honoured),
            ("httpHeaders", Honoured),
            ("path", Honoured),
            ("port", Honoured),
            (
                "protocol",
                Refused("it is asked in HTTP/1.1, which leaving this out means"),
            ),
            ("scheme", Honoured),
        ],
    ),
];
