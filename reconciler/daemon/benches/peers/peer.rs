//! What is asked of every peer.

/// Something that runs containers.
pub trait Peer {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Whether its containers have addresses.
    fn has_network(&self) -> bool {
        true
    }

    /// Whether it starts a killed container again.
    fn restarts(&self) -> bool {
        true
    }

    /// Asks for so many containers, as a user does; may return before they run.
    fn start(&mut self, count: usize) -> anyhow::Result<()>;

    /// Removes all of them and waits until they are gone.
    fn remove(&mut self) -> anyhow::Result<()>;

    /// The processes that supervise its containers, and those of its daemons.
    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)>;
}

/// Runs `work` for each number below `count`, eight at a time; the first failure is returned.
pub fn at_once(count: usize, work: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count.min(8))
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        work(number)?;
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}
