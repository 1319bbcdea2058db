//! Connections and bytes through a service, with one, 100 and 5,000 services on the node; the floor is the pod's own address.
//!
//! A thread of this process serves in the pod's network: a program that forks for each request would be what is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::instance::cpu_time;
use crate::marks::{DEADLINE, Marks, servers};
use crate::peer::Peer;
use crate::setpoint::{Setpoint, World};

/// For how long each is measured.
const FOR: Duration = Duration::from_secs(3);
/// Where the thread serves.
const PORT: u16 = 9090;
/// The size of a large answer.
const LARGE: usize = 16 << 20;

/// Prints the table.
pub fn measure(world: &World, peer: &mut Setpoint, marks: &Marks) -> anyhow::Result<()> {
    marks.clear()?;
    peer.start(1)?;
    let pod = marks.wait(1)?[0].context("the pod does not know its address")?;
    crate::marks::wait_answers(&[pod])?;
    let [server] = servers()?[..] else {
        anyhow::bail!("there is not one program of a pod");
    };
    serve(server)?;
    println!("\nthrough a service\n{:<56} {:>14} {:>12}", "", "connections/s", "MB/s");
    let direct = SocketAddr::from((pod, PORT));
    let mut made = 0;
    for count in [1, 100, 5000] {
        let start = Instant::now();
        let address = services(world, made, count)?;
        made = count;
        let through = SocketAddr::from((address, 80));
        wait(through)?;
        println!(
            "{count} services made and reached: {:.1} s",
            start.elapsed().as_secs_f64()
        );
        rest(world)?;
        print("  floor: the pod's own address", direct)?;
        print(&format!("through the last of {count} services"), through)?;
    }
    peer.remove()
}

/// Waits until the daemon does next to nothing, so that not its work is measured.
fn rest(world: &World) -> anyhow::Result<()> {
    let pid = world.instance.pid()?;
    let start = Instant::now();
    loop {
        let before = cpu_time(pid)?;
        std::thread::sleep(Duration::from_millis(500));
        if cpu_time(pid)?.saturating_sub(before) <= Duration::from_millis(10) {
            println!("  the daemon rests after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < DEADLINE, "the daemon does not come to rest");
    }
}

/// Serves in the network of a process: one byte asks, "l" for much and any other for little.
fn serve(pid: i32) -> anyhow::Result<()> {
    let network = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let bound = nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(std::io::Error::from)
            .and_then(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)));
        let listener = match bound {
            Ok(listener) => {
                // Who asked has ended, too, if he does not listen.
                drop(tell.send(Ok(())));
                listener
            }
            Err(error) => return drop(tell.send(Err(error))),
        };
        let large = vec![b'x'; LARGE];
        for connection in listener.incoming() {
            let answered = connection.and_then(|mut stream| {
                let mut asked = [0];
                stream.read_exact(&mut asked)?;
                stream.write_all(if &asked == b"l" { &large } else { b"here" })
            });
            // The client counts what it gets.
            drop(answered);
        }
    });
    Ok(told.recv_timeout(Duration::from_secs(5))??)
}

/// Makes the services numbered `made` and above, below `count`; all lead to the one pod. Returns the last one's address.
fn services(world: &World, made: usize, count: usize) -> anyhow::Result<Ipv4Addr> {
    let api: Api<Service> = Api::default_namespaced(world.client.clone());
    world.runtime.block_on(async {
        let creates = (made..count).map(|number| {
            let api = api.clone();
            async move {
                let service: Service = serde_json::from_value(json!({
                    "metadata": {"name": format!("bench-{number}")},
                    "spec": {"selector": {"bench": "peers"}, "ports": [{"port": 80, "targetPort": PORT}]},
                }))?;
                anyhow::Ok(api.create(&PostParams::default(), &service).await?)
            }
        });
        let mut creates = futures::stream::iter(creates).buffered(16);
        let mut last = None;
        while let Some(created) = creates.next().await {
            last = created?.spec.and_then(|spec| spec.cluster_ip);
        }
        // The endpoints of the last one are there when its slice is.
        let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> = Api::default_namespaced(world.client.clone());
        let start = Instant::now();
        let wanted = format!("kubernetes.io/service-name=bench-{}", count - 1);
        while slices
            .list(&ListParams::default().labels(&wanted))
            .await?
            .items
            .is_empty()
        {
            anyhow::ensure!(start.elapsed() < DEADLINE, "the last service has no endpoints");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(last.context("a service has an address")?.parse()?)
    })
}

fn wait(address: SocketAddr) -> anyhow::Result<()> {
    let start = Instant::now();
    while request(address, b"s").is_err() {
        anyhow::ensure!(start.elapsed() < DEADLINE, "{address} does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Asks once, over a connection of its own; returns how many bytes came.
fn request(address: SocketAddr, asked: &[u8]) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(asked)?;
    let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            read => total += read,
        }
    }
}

fn print(name: &str, address: SocketAddr) -> anyhow::Result<()> {
    let (start, mut requests) = (Instant::now(), 0u32);
    while start.elapsed() < FOR {
        anyhow::ensure!(request(address, b"s")? > 0, "an empty answer");
        requests += 1;
    }
    let rate = f64::from(requests) / start.elapsed().as_secs_f64();
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < FOR {
        let read = request(address, b"l")?;
        anyhow::ensure!(read == LARGE, "a short answer");
        bytes += read;
    }
    let throughput = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{name:<56} {rate:>14.0} {throughput:>12.0}");
    Ok(())
}
