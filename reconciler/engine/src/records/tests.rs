use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::*;

/// Records in memory.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<BTreeMap<(String, String), Bytes>>,
    blobs: Mutex<BTreeMap<String, Bytes>>,
    series: Mutex<BTreeMap<String, Vec<Bytes>>>,
}

#[async_trait]
impl Records for Memory {
    async fn commit(&self, batch: Batch) -> Result<(), RecordsError> {
        let blobs = batch.blobs.into_iter().map(|bytes| (digest(&bytes), bytes));
        self.blobs.lock().extend(blobs);
        for (collection, key, value) in batch.put {
            self.records.lock().insert((collection, key), value);
        }
        for (series, entry) in batch.append {
            self.series.lock().entry(series).or_default().insert(0, entry);
        }
        Ok(())
    }

    async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, RecordsError> {
        let records = self.records.lock();
        let of = records.iter().filter(|((of, _), _)| of == collection);
        Ok(of.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    async fn blob(&self, digest: &str) -> Result<Option<Bytes>, RecordsError> {
        Ok(self.blobs.lock().get(digest).cloned())
    }

    async fn series(&self, series: &str, limit: usize) -> Result<Vec<Bytes>, RecordsError> {
        let entries = self.series.lock().get(series).cloned().unwrap_or_default();
        Ok(entries.into_iter().take(limit).collect())
    }

    async fn keep_only_blobs(&self, _: &BTreeSet<String>) -> Result<usize, RecordsError> {
        Ok(0)
    }
}
