//! The store does not grow without bound: a shortened life of a cluster with limits as much smaller (`cargo bench --bench soak` has it whole).

#[path = "../benches/soak/cluster.rs"]
mod cluster;

use cluster::Scale;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_many_changes_stays_within_its_limits() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let scale = Scale::scaled(0.006);
    let samples = cluster::run(dir.path(), scale, |sample| eprintln!("{sample:?}"))
        .await
        .expect("it runs");
    let faults = cluster::faults(&scale, &samples);
    assert!(faults.is_empty(), "{faults:#?}");
    for sample in &samples {
        assert!(sample.p50 <= sample.p99 && sample.p99 <= sample.slowest);
        assert!(sample.bytes > 0 && sample.free_pages >= 0);
    }
    let last = samples.last().expect("some");
    assert!(last.window > 50, "about the last minute can be read at least");
    let lived = (last.day * 86_400.0) as i64;
    assert!(last.window < lived, "the limit was never reached: {last:?}");
    assert!(last.keys < scale.pods as u64 + 10_000, "{} keys", last.keys);
}
