//! Small disks that can be filled up, made to fail, and cut off from their power.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Tells a process that it is in a namespace of its own already.
const INSIDE: &str = "SETPOINT_FAULTS_INSIDE";

/// Runs `test`, the test of this name, in a process with a mount namespace of its own: whatever it mounts goes when it ends, however it
/// ends.
///
/// # Panics
/// When the test fails, and when this is not root.
pub fn isolated(path: &str, test: impl Future<Output = ()>) {
    let (_, name) = path.split_once("::").expect("the crate's name comes first");
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        return runtime.block_on(test);
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "{name} mounts file systems: run it as root, as `make test` does"
    );
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, name)
        .status()
        .expect("unshare (util-linux) starts");
    assert!(status.success(), "{name}: {status}");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A file system in memory, of a size.
pub struct Memory {
    dir: TempDir,
}

impl Memory {
    /// Mounts one of so many mebibytes.
    pub fn new(mebibytes: u32) -> Memory {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let size = format!("size={mebibytes}m,mode=700");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(dir.path())]);
        Memory { dir }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("a file");
        for block in [vec![0xa5; 1 << 20], vec![0xa5; 4096], vec![0xa5; 1]] {
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("removes");
    }

    /// Mounts it read-only, or not any more. Nothing may be open for writing.
    pub fn read_only(&self, yes: bool) {
        let option = if yes { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", option, text(self.path())]);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What is busy goes with the process.
        Command::new("umount")
            .args(["--quiet", "--lazy"])
            .arg(self.path())
            .status()
            .ok();
    }
}

/// An ext4 file system on a block device of its own, whose bytes are a file.
///
/// That file is on a file system of its own as well, of the kind that refuses all writes to a file that was made immutable: this is how
/// the device fails, for all that is written and at once. (A file on a disk that is full would not do: the kernel takes the part that
/// still fits for the whole.)
pub struct Device {
    image: PathBuf,
    dir: TempDir,
    platter: TempDir,
    /// What the kernel does about an error of the file system.
    errors: &'static str,
    _under: Memory,
}

/// The size of a device.
const DEVICE: u64 = 48 << 20;

fn image(path: &Path, size: u64, options: &[&str]) {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .expect("an image");
    run("mkfs.ext4", &[&["-q"], options, &[text(path)]].concat());
}

impl Device {
    /// Makes one.
    pub fn new() -> Device {
        let device = Device::bare("remount-ro");
        image(&device.image, DEVICE, &["-J", "size=4"]);
        device.mount();
        device
    }

    /// Makes one whose file system goes on after a failure: without a journal there is none that could break, and of ext2's blocks none
    /// is written twice before it counts.
    pub fn without_journal() -> Device {
        let device = Device::bare("continue");
        image(&device.image, DEVICE, &["-t", "ext2"]);
        device.mount();
        device
    }

    fn bare(errors: &'static str) -> Device {
        let under = Memory::new(80);
        let below = under.path().join("image");
        image(&below, DEVICE + (16 << 20), &["-O", "^has_journal"]);
        let platter = tempfile::tempdir().expect("a temporary directory");
        run("mount", &["-o", "loop", text(&below), text(platter.path())]);
        Device {
            image: platter.path().join("image"),
            dir: tempfile::tempdir().expect("a temporary directory"),
            platter,
            errors,
            _under: under,
        }
    }

    /// Mounts it, as after a start of the machine.
    pub fn mount(&self) {
        run(
            "mount",
            &[
                "-o",
                &format!("loop,errors={}", self.errors),
                text(&self.image),
                text(self.path()),
            ],
        );
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// From now on no block can be written: the kernel takes writes, and flushing them fails.
    pub fn break_down(&self) {
        run("chattr", &["+i", text(&self.image)]);
    }

    /// Blocks can be written again.
    pub fn mend(&self) {
        run("chattr", &["-i", text(&self.image)]);
    }

    /// Tells the kernel of an error in the file system, for which it turns read-only at once.
    pub fn turn_read_only(&self) {
        let source = run("findmnt", &["--noheadings", "--output", "SOURCE", text(self.path())]);
        let name = source.rsplit('/').next().expect("a device").to_owned();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test").expect("the kernel takes errors");
    }

    /// What a cut of the power would leave at this moment: what was flushed, and nothing that only the kernel has.
    pub fn cut(&self) -> Device {
        let cut = Device::bare(self.errors);
        run("cp", &["--sparse=always", text(&self.image), text(&cut.image)]);
        // What mounting does not repair by the journal, a start of the machine does by this. It ends with 1 when it repaired something.
        let check = Command::new("e2fsck").args(["-fy", text(&cut.image)]).output();
        let code = check.expect("e2fsck (e2fsprogs) starts").status.code();
        assert!(
            code.is_some_and(|code| code < 4),
            "the file system is beyond repair: {code:?}"
        );
        cut.mount();
        cut
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for path in [self.dir.path(), self.platter.path()] {
            // What is busy goes with the process.
            Command::new("umount")
                .args(["--quiet", "--lazy"])
                .arg(path)
                .status()
                .ok();
        }
    }
}
