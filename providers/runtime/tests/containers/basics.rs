//! Starting, ending, output, processes inside.

use std::time::Duration;

use libtest_mimic::Trial;
use setpoint_runtime::logs::ReadOptions;
use setpoint_runtime::spec::{ContainerSpec, ExecSpec, LogLimits, Mount, MountSource, Resources};
use setpoint_runtime::{RuntimeError, StartStage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::trial;
use crate::world::{World, script};

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "a_container_runs_and_its_exit_code_and_output_are_kept",
            exit_and_output,
        ),
        trial("a_container_that_a_signal_ends_says_so", signal),
        trial("a_container_over_its_memory_limit_is_reported_as_oom_killed", oom),
        trial("stop_asks_first_and_kills_when_the_grace_is_over", stop),
        trial(
            "a_program_that_does_not_exist_is_a_start_error_and_leaves_nothing",
            not_found,
        ),
        trial("a_mount_that_fails_leaves_nothing", failed_mount),
        trial("an_attempt_follows_an_attempt_with_a_fresh_root", attempts),
        trial("logs_follow_a_running_container_to_its_end", follow),
        trial("a_log_that_is_put_aside_over_and_over_reads_as_one", rotations),
        trial("exec_connects_streams_and_returns_the_exit_code", exec),
        trial("exec_with_a_terminal_can_be_resized", exec_terminal),
        trial("a_process_whose_terminal_goes_is_hung_up_and_then_killed", hang_up),
        trial("a_port_on_a_pods_loopback_is_reached_from_the_host", connect),
        trial("exec_of_what_does_not_exist_is_an_error", exec_not_found),
        trial("dropping_an_exec_session_kills_its_process", exec_dropped),
        trial("attach_gives_input_and_takes_output_of_the_container_itself", attach),
        trial("the_first_client_of_a_container_gets_what_it_missed", attach_early),
        trial("a_terminal_can_be_attached_to_and_resized", attach_terminal),
        trial("several_clients_see_the_same_and_may_leave", attach_several),
        trial(
            "a_client_that_takes_nothing_does_not_hold_a_container_for_ever",
            attach_stuck,
        ),
        trial("what_has_ended_cannot_be_attached_to", attach_ended),
        trial("files_directories_and_tmpfs_are_mounted", mounts),
        trial("a_container_with_a_terminal_logs_what_it_shows", terminal),
    ]
}

async fn exit_and_output() {
    let world = World::new().await;
    world.sandbox("a").await;
    let (ended, log) = world.run("a", script("app", "echo out; echo err >&2; exit 7")).await;
    let exit = ended.exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    let file = std::fs::read_to_string(world.runtime.log_path("a", "app", 0)).unwrap();
    assert!(
        file.contains("Z stdout F out\n") && file.contains("Z stderr F err\n"),
        "{file}"
    );
    world.finish().await;
}

async fn signal() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    world.runtime.signal("a", &started.id(), libc_sigkill()).await.unwrap();
    let exit = world.ended("a", &started.id()).await.exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
    world.finish().await;
}

fn libc_sigkill() -> i32 {
    9
}

async fn oom() {
    let world = World::new().await;
    world.sandbox("a").await;
    let resources = Resources {
        memory_limit: Some(24 << 20),
        ..Resources::default()
    };
    let text = "x=$(head -c 200000000 /dev/zero | tr '\\0' 'x'); echo ${#x}";
    let (ended, _) = world
        .run(
            "a",
            ContainerSpec {
                resources,
                ..script("app", text)
            },
        )
        .await;
    let exit = ended.exit.unwrap();
    assert!(exit.oom_killed, "{exit:?}");
    assert_ne!(exit.code, 0);
    world.finish().await;
}

async fn stop() {
    let world = World::new().await;
    world.sandbox("a").await;
    let polite = world
        .start(
            "a",
            script("polite", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"),
        )
        .await;
    let polite = polite.unwrap();
    until_logged(&world, &polite, "up").await;
    let ended = world
        .runtime
        .stop_container("a", &polite.id(), Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(ended.exit.unwrap().code, 3);

    let deaf = world
        .start(
            "a",
            script("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done"),
        )
        .await
        .unwrap();
    until_logged(&world, &deaf, "up").await;
    let ended = world
        .runtime
        .stop_container("a", &deaf.id(), Duration::from_millis(100))
        .await
        .unwrap();
    assert_eq!(ended.exit.unwrap().signal, Some(9));
    world.finish().await;
}

/// Waits until a line was logged.
async fn until_logged(world: &World, container: &setpoint_runtime::spec::ContainerState, line: &str) {
    let options = ReadOptions {
        follow: true,
        ..ReadOptions::default()
    };
    let mut chunks = world.runtime.logs("a", &container.name, container.attempt, options);
    let mut text = String::new();
    while !text.lines().any(|known| known == line) {
        let chunk = chunks.recv().await.expect("the line before the end").unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

async fn not_found() {
    let world = World::new().await;
    world.sandbox("a").await;
    for (command, code, message) in [
        (
            "nonesuch",
            127,
            "exec: \"nonesuch\": executable file not found in $PATH",
        ),
        (
            "/nonesuch",
            127,
            "exec: \"/nonesuch\": stat /nonesuch: no such file or directory",
        ),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
    ] {
        let spec = ContainerSpec {
            command: Some(vec![command.to_owned()]),
            ..script("app", "")
        };
        match world.start("a", spec).await {
            Err(RuntimeError::Start {
                stage: StartStage::Start,
                message: found,
                code: found_code,
            }) => {
                assert_eq!((found.as_str(), found_code), (message, code));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(world.runtime.sandbox("a").unwrap().containers.is_empty());
    let left = world.folder.join("data/sandboxes/a/containers");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
    assert!(!world.runtime.log_path("a", "app", 0).exists());
    world.finish().await;
}

async fn failed_mount() {
    let world = World::new().await;
    world.sandbox("a").await;
    let source = MountSource::Bind {
        path: "/nonexistent/source".into(),
    };
    let mounts = vec![Mount {
        target: "/data".into(),
        source,
        read_only: false,
    }];
    let error = world
        .start(
            "a",
            ContainerSpec {
                mounts,
                ..script("app", "true")
            },
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "CreateContainerError");
    assert!(error.to_string().contains("/nonexistent/source"), "{error}");
    assert_eq!(
        std::fs::read_dir(world.folder.join("data/sandboxes/a/containers"))
            .unwrap()
            .count(),
        0
    );
    // The same name can be tried again.
    let (ended, _) = world.run("a", script("app", "true")).await;
    assert_eq!(ended.exit.unwrap().code, 0);
    world.finish().await;
}

async fn attempts() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "test -e /mark && echo old; touch /mark; echo done";
    let (first, _) = world.run("a", script("app", text)).await;
    let again = world.start("a", script("app", text)).await.unwrap_err();
    assert!(matches!(again, RuntimeError::Exists { .. }), "{again}");
    let (second, log) = world
        .run(
            "a",
            ContainerSpec {
                attempt: 1,
                ..script("app", text)
            },
        )
        .await;
    assert_eq!((second.id().as_str(), log.as_str()), ("app-1", "done\n"));
    assert!(!std::path::Path::new("/mark").exists());

    world.runtime.remove_container("a", &first.id()).await.unwrap();
    assert!(!world.runtime.log_path("a", "app", 0).exists());
    let names: Vec<String> = world
        .runtime
        .sandbox("a")
        .unwrap()
        .containers
        .iter()
        .map(|c| c.id())
        .collect();
    assert_eq!(names, ["app-1"]);
    world.finish().await;
}

async fn follow() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world
        .start(
            "a",
            script("app", "for i in 1 2 3; do echo $i; sleep 0.05; done; printf end"),
        )
        .await;
    assert_eq!(world.log("a", &started.unwrap()).await, "1\n2\n3\nend");
    world.finish().await;
}

async fn rotations() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && sleep 0.005; done; true";
    let spec = ContainerSpec {
        log: LogLimits { size: 2048, files: 200 },
        ..script("app", text)
    };
    let started = world.start("a", spec).await.unwrap();
    let all: String = (1..=3000).map(|number| format!("{number}\n")).collect();
    assert_eq!(world.log("a", &started).await, all, "followed");
    let files = world.runtime.log_files("a", "app", 0).unwrap();
    assert!(files.len() > 20, "{} files", files.len());
    let read = async |options: ReadOptions| {
        let mut chunks = world.runtime.logs("a", "app", 0, options);
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    };
    assert_eq!(read(ReadOptions::default()).await, all, "read at once");
    let timestamps = ReadOptions {
        timestamps: true,
        ..ReadOptions::default()
    };
    let timed = read(timestamps.clone()).await;
    let timed: Vec<(&str, &str)> = timed.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert!(timed.is_sorted_by_key(|(time, _)| *time) && timed.len() == 3000);
    let (time, _) = timed[700];
    let first = timed.iter().position(|(other, _)| other == &time).unwrap();
    let since = ReadOptions {
        since: Some(time.parse().unwrap()),
        ..ReadOptions::default()
    };
    let rest: String = timed[first..].iter().map(|(_, text)| format!("{text}\n")).collect();
    assert_eq!(read(since.clone()).await, rest, "since {time}");
    let tail = ReadOptions {
        tail: Some(2000),
        limit_bytes: Some(15),
        ..timestamps
    };
    assert_eq!(read(tail).await, timed[1000].0[..15], "the tail");
    world.runtime.remove_container("a", "app-0").await.unwrap();
    let left = std::fs::read_dir(files[0].parent().unwrap()).unwrap().count();
    assert_eq!(left, 0, "files of a removed attempt");
    world.finish().await;
}

async fn exec() {
    let world = World::new().await;
    world.sandbox("a").await;
    let env = vec![("GREETING".to_owned(), "hello".to_owned())];
    let started = world
        .start(
            "a",
            ContainerSpec {
                env,
                ..script("app", "exec sleep 1000")
            },
        )
        .await
        .unwrap();
    let command = ["sh", "-c", "echo $GREETING $(hostname); echo bad >&2; exit 5"];
    let (code, out, err) = world.exec("a", &started.id(), &command).await;
    assert_eq!((code, out.as_str(), err.as_str()), (5, "hello web-host\n", "bad\n"));

    let spec = ExecSpec {
        command: vec!["cat".to_owned()],
        tty: false,
        stdin: true,
    };
    let session = world.runtime.exec("a", &started.id(), spec).await.unwrap();
    let mut stdin = session.stdin.unwrap();
    stdin.write_all(b"through the pipe").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.exit.await.unwrap()), ("through the pipe", 0));
    world.finish().await;
}

async fn exec_terminal() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    let text = "test -t 0 && tty; read line; stty size; exit 4";
    let command = ["sh", "-c", text].map(str::to_owned).to_vec();
    let session = world
        .runtime
        .exec(
            "a",
            &started.id(),
            ExecSpec {
                command,
                tty: true,
                stdin: true,
            },
        )
        .await
        .unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    let resize = session.resize.unwrap();
    resize.send((132, 43)).await.unwrap();
    // Resizes are applied in order; once a second one fits into the full channel the first was taken.
    for _ in 0..8 {
        resize.send((132, 43)).await.unwrap();
    }
    stdin.write_all(b"\n").await.unwrap();
    let mut shown = String::new();
    stdout.read_to_string(&mut shown).await.unwrap();
    assert!(shown.contains("/dev/pts/") && shown.contains("43 132"), "{shown:?}");
    assert_eq!(session.exit.await.unwrap(), 4);
    world.finish().await;
}

async fn hang_up() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    let id = started.id();
    // One passes the hang-up on, as a shell does; the other one does not care.
    for text in [
        "trap 'echo heard > /tmp/heard; exit' HUP; echo $$; while :; do sleep 0.05; done",
        "trap '' HUP; echo $$; while :; do sleep 0.05; done",
    ] {
        let spec = ExecSpec {
            command: ["sh", "-c", text].map(str::to_owned).to_vec(),
            tty: true,
            stdin: true,
        };
        let mut session = world.runtime.exec("a", &id, spec).await.unwrap();
        let mut pid = String::new();
        let mut stdout = session.stdout.take().unwrap();
        while !pid.ends_with('\n') {
            let byte = stdout.read_u8().await.unwrap();
            pid.push(char::from(byte));
        }
        drop((session, stdout));
        let gone = format!(
            "for i in $(seq 200); do kill -0 {} 2>/dev/null || exit 0; sleep 0.1; done; exit 1",
            pid.trim()
        );
        let (code, ..) = world.exec("a", &id, &["sh", "-c", &gone]).await;
        assert_eq!(code, 0, "{text}");
    }
    let (_, heard, _) = world.exec("a", &id, &["cat", "/tmp/heard"]).await;
    assert_eq!(heard, "heard\n");
    world.finish().await;
}

async fn connect() {
    let world = World::new().await;
    world.sandbox("a").await;
    let refused = world.runtime.connect("a", 7777).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "failed to connect to localhost:7777 inside the pod: IPv4: dial tcp4 127.0.0.1:7777: connect: connection refused \
         IPv6: dial tcp6 [::1]:7777: connect: connection refused"
    );
    // Nothing of the host's own is reached.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(world.runtime.connect("a", port).await.is_err());
    for family in ["", "6"] {
        let address = if family.is_empty() { "127.0.0.1" } else { "::1" };
        let text = format!(
            "import socket; s = socket.socket(socket.AF_INET{family}); s.bind(('{address}', 7000)); s.listen(); print('on', flush=True); \
             c, _ = s.accept(); c.sendall(c.recv(9)[::-1]); c.close()"
        );
        let spec = ContainerSpec {
            command: Some(vec!["python3".to_owned(), "-c".to_owned(), text]),
            ..script(if family.is_empty() { "four" } else { "six" }, "")
        };
        let started = world.start("a", spec).await.unwrap();
        let connected = async {
            loop {
                match world.runtime.connect("a", 7000).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let mut stream = connected.await;
        stream.write_all(b"abc").await.unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "cba");
        world.ended("a", &started.id()).await;
    }
    world.finish().await;
}

fn interactive(text: &str, once: bool) -> ContainerSpec {
    ContainerSpec {
        stdin: true,
        stdin_once: once,
        ..script("app", text)
    }
}

/// Reads until the text ends with what is expected.
async fn read_until(from: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    let reading = async {
        while !text.ends_with(end.as_bytes()) {
            assert_eq!(
                from.read(&mut byte).await.unwrap(),
                1,
                "{}",
                String::from_utf8_lossy(&text)
            );
            text.push(byte[0]);
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(in_time.is_ok(), "no {end:?} in {:?}", String::from_utf8_lossy(&text));
    String::from_utf8(text).unwrap()
}

async fn attach() {
    let world = World::new().await;
    world.sandbox("a").await;
    let spec = interactive(
        "while read -r line; do echo got $line; echo err $line >&2; done; echo over; exit 4",
        true,
    );
    world.start("a", spec).await.unwrap();
    let mut session = world.runtime.attach("a", "app-0", true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (session.stdout.take().unwrap(), session.stderr.take().unwrap());
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut stdout, "\n").await, format!("got {line}\n"));
        assert_eq!(read_until(&mut stderr, "\n").await, format!("err {line}\n"));
    }
    // The end of the first client's input is the end of the container's.
    drop(stdin);
    let (mut rest, mut none) = (String::new(), String::new());
    let (out, err, code) = tokio::join!(
        stdout.read_to_string(&mut rest),
        stderr.read_to_string(&mut none),
        session.exit
    );
    assert_eq!((out.unwrap(), err.unwrap(), code.unwrap()), (5, 0, 4));
    assert_eq!(rest, "over\n");
    let ended = world.ended("a", "app-0").await;
    assert!(world.log("a", &ended).await.contains("got two\n"));
    world.finish().await;
}

async fn attach_early() {
    let world = World::new().await;
    for (id, once, expected) in [("a", true, "early\nlate\n"), ("b", false, "late\n")] {
        world.sandbox(id).await;
        let text = "echo early; while [ ! -e /go ]; do read -r line && break; done; echo late";
        world.start(id, interactive(text, once)).await.unwrap();
        let log = world.runtime.log_path(id, "app", 0);
        while !std::fs::read_to_string(&log).unwrap().contains("early") {
            tokio::task::yield_now().await;
        }
        let mut session = world.runtime.attach(id, "app-0", true).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"go\n").await.unwrap();
        let mut text = String::new();
        let (read, code) = tokio::join!(session.stdout.as_mut().unwrap().read_to_string(&mut text), session.exit);
        read.unwrap();
        assert_eq!((text.as_str(), code.unwrap()), (expected, 0));
    }
    world.finish().await;
}

async fn attach_terminal() {
    let world = World::new().await;
    world.sandbox("a").await;
    let spec = ContainerSpec {
        tty: true,
        ..interactive(
            "while read -r line; do [ $line = end ] && exit 3; stty size; done",
            true,
        )
    };
    world.start("a", spec).await.unwrap();
    let session = world.runtime.attach("a", "app-0", true).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    session.resize.as_ref().unwrap().send((91, 37)).await.unwrap();
    // The size is set beside the input: ask until it shows. Each line comes back twice, as echo and as answer.
    let mut shown = String::new();
    while !shown.contains("37 91") {
        stdin.write_all(b"size\n").await.unwrap();
        shown = read_until(&mut stdout, "\r\n").await + &read_until(&mut stdout, "\r\n").await;
    }
    stdin.write_all(b"end\n").await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 3);
    world.finish().await;
}

async fn attach_several() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "while read -r line; do echo got $line; [ $line = end ] && exit 0; done";
    world.start("a", interactive(text, false)).await.unwrap();
    let mut one = world.runtime.attach("a", "app-0", true).await.unwrap();
    let mut two = world.runtime.attach("a", "app-0", false).await.unwrap();
    assert!(two.stdin.is_none());
    let mut stdin = one.stdin.take().unwrap();
    stdin.write_all(b"x\n").await.unwrap();
    for session in [&mut one, &mut two] {
        assert_eq!(read_until(session.stdout.as_mut().unwrap(), "\n").await, "got x\n");
    }
    drop((stdin, one));
    // Its input stays open, and another may come.
    let mut three = world.runtime.attach("a", "app-0", true).await.unwrap();
    let mut stdin = three.stdin.take().unwrap();
    stdin.write_all(b"end\n").await.unwrap();
    assert_eq!(read_until(two.stdout.as_mut().unwrap(), "\n").await, "got end\n");
    assert_eq!((two.exit.await.unwrap(), three.exit.await.unwrap()), (0, 0));
    world.finish().await;
}

async fn attach_stuck() {
    let world = World::new().await;
    world.sandbox("a").await;
    let text = "read -r line; head -c 1000000 /dev/zero | tr '\\0' '.'; echo";
    world.start("a", interactive(text, false)).await.unwrap();
    let mut stuck = world.runtime.attach("a", "app-0", true).await.unwrap();
    let mut reading = world.runtime.attach("a", "app-0", false).await.unwrap();
    stuck.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    // One that reads gets everything, though the other reads nothing: it is let go.
    let mut all = Vec::new();
    let (read, code) = tokio::join!(reading.stdout.as_mut().unwrap().read_to_end(&mut all), reading.exit);
    assert_eq!((read.unwrap(), code.unwrap()), (1_000_001, 0));
    stuck.exit.await.unwrap_err();
    let ended = world.ended("a", "app-0").await;
    assert_eq!(ended.exit.clone().unwrap().code, 0);
    assert_eq!(world.log("a", &ended).await.len(), 1_000_001);
    world.finish().await;
}

async fn attach_ended() {
    let world = World::new().await;
    world.sandbox("a").await;
    world.run("a", interactive("true", true)).await;
    let refused = world.runtime.attach("a", "app-0", true).await.err().unwrap();
    assert!(matches!(refused, RuntimeError::NotRunning(_)), "{refused}");
    world.finish().await;
}

async fn exec_not_found() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    for tty in [false, true] {
        let spec = ExecSpec {
            command: vec!["nonesuch".to_owned()],
            tty,
            stdin: false,
        };
        let error = world.runtime.exec("a", &started.id(), spec).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "exec: \"nonesuch\": executable file not found in $PATH"
        );
    }
    world.finish().await;
}

async fn exec_dropped() {
    let world = World::new().await;
    world.sandbox("a").await;
    let started = world
        .start(
            "a",
            script(
                "app",
                "while :; do pgrep -f 'slee[p] 4242' >/dev/null && echo seen || echo none; sleep 0.05; done",
            ),
        )
        .await
        .unwrap();
    let spec = ExecSpec {
        command: vec!["sleep".to_owned(), "4242".to_owned()],
        tty: false,
        stdin: false,
    };
    let session = world.runtime.exec("a", &started.id(), spec).await.unwrap();
    until_logged(&world, &started, "seen").await;
    drop(session);
    let options = ReadOptions {
        follow: true,
        tail: Some(0),
        ..ReadOptions::default()
    };
    let mut chunks = world.runtime.logs("a", "app", 0, options);
    loop {
        let chunk = chunks.recv().await.unwrap().unwrap();
        if chunk.starts_with(b"none") {
            break;
        }
    }
    world.finish().await;
}

async fn mounts() {
    let world = World::new().await;
    world.sandbox("a").await;
    let host = world.folder.join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "content").unwrap();
    let bind = |path: &str, target: &str, read_only| Mount {
        target: target.into(),
        source: MountSource::Bind { path: host.join(path) },
        read_only,
    };
    let mounts = vec![
        bind("file", "/etc/new/file", true),
        bind("", "/volume", false),
        bind("", "/volume-ro", true),
        Mount {
            target: "/memory".into(),
            source: MountSource::Tmpfs { size: Some(1 << 20) },
            read_only: false,
        },
    ];
    let text = "cat /etc/new/file; echo; touch /volume/made; touch /volume-ro/no 2>/dev/null || echo ro; \
                touch /memory/a && stat -f -c %T /memory";
    let (ended, log) = world
        .run(
            "a",
            ContainerSpec {
                mounts,
                ..script("app", text)
            },
        )
        .await;
    assert_eq!(log, "content\nro\ntmpfs\n");
    assert_eq!(ended.exit.unwrap().code, 0);
    assert!(host.join("made").exists());
    world.finish().await;
}

async fn terminal() {
    let world = World::new().await;
    world.sandbox("a").await;
    let (_, log) = world
        .run(
            "a",
            ContainerSpec {
                tty: true,
                ..script("app", "test -t 1 && echo shown")
            },
        )
        .await;
    assert_eq!(log, "shown\r\n");
    world.finish().await;
}
