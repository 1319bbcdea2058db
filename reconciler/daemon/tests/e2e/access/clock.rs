//! A clock that a test moves for one daemon: a library that is loaded before the system's answers for it.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::World;

/// The system's time and as much more as a file says, in seconds. `CLOCK_REALTIME` alone: what measures how long something takes
/// is left alone.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("TEST_CLOCK");
    if (result == 0 && clock == CLOCK_REALTIME && path) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            char text[32] = {0};
            if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
            close(file);
        }
    }
    return (int)result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"#;

/// A clock to move, and the library that tells it.
pub struct Clock {
    folder: tempfile::TempDir,
    days: std::cell::Cell<u64>,
}

impl Clock {
    /// Builds the library with the C compiler that builds the program's own C.
    pub fn new() -> Clock {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("clock.c");
        std::fs::write(&source, SOURCE).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("clock.so"))
            .arg(&source)
            .status()
            .unwrap();
        assert!(built.success(), "cc cannot build the clock");
        let clock = Clock {
            folder,
            days: std::cell::Cell::new(0),
        };
        clock.forward_days(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Moves the clock forward.
    pub fn forward_days(&self, days: u64) {
        self.days.set(self.days.get() + days);
        let new = self.folder.path().join("offset.new");
        std::fs::write(&new, (self.days.get() * 24 * 3600).to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// What a program has in its environment that lives by this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.folder.path().join("clock.so")),
            ("TEST_CLOCK", self.file()),
        ]
    }

    /// Starts the daemon of a world on this clock.
    pub fn start(&self, world: &mut World) {
        world.up_in(&self.environment());
    }
}
