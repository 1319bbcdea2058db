//! Connections and bytes through a service, with one, 100 and 5,000 services on the node; the floor is the pod's own address.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::image::LARGE;
use crate::marks::{DEADLINE, Marks};
use crate::peer::Peer;
use crate::setpoint::{Setpoint, World};

/// For how long each is measured.
const FOR: Duration = Duration::from_secs(3);

/// Prints the table.
pub fn measure(world: &World, peer: &mut Setpoint, marks: &Marks) -> anyhow::Result<()> {
    marks.clear()?;
    peer.start(1)?;
    let pod = marks.wait(1)?[0].context("the pod does not know its address")?;
    crate::marks::wait_answers(&[pod])?;
    println!("\nthrough a service\n{:<56} {:>14} {:>12}", "", "requests/s", "MB/s");
    let direct = SocketAddr::from((pod, 8080));
    print("floor: the pod's own address", direct)?;
    let mut made = 0;
    for count in [1, 100, 5000] {
        let address = services(world, made, count)?;
        made = count;
        let through = SocketAddr::from((address, 80));
        wait(through)?;
        print(&format!("through the last of {count} services"), through)?;
        print("  floor: the pod's own address", direct)?;
    }
    peer.remove()
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
                    "spec": {"selector": {"bench": "peers"}, "ports": [{"port": 80, "targetPort": 8080}]},
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
    while request(address, "/").is_err() {
        anyhow::ensure!(start.elapsed() < DEADLINE, "{address} does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Asks once, over a connection of its own; returns how many bytes came.
fn request(address: SocketAddr, path: &str) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
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
        anyhow::ensure!(request(address, "/")? > 0, "an empty answer");
        requests += 1;
    }
    let rate = f64::from(requests) / start.elapsed().as_secs_f64();
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < FOR {
        let read = request(address, "/large")?;
        anyhow::ensure!(read > LARGE, "a short answer");
        bytes += read;
    }
    let throughput = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{name:<56} {rate:>14.0} {throughput:>12.0}");
    Ok(())
}
