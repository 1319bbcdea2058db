-- The life of a key, from its creation to its deletion, is named by the revision that created it; all else refers to that.
CREATE TABLE life (
    created INTEGER PRIMARY KEY,
    key TEXT NOT NULL
);
CREATE INDEX life_key ON life (key, created);

ALTER TABLE log RENAME TO log_1;
DROP INDEX log_key;
CREATE INDEX time_1 ON commit_time (rev, at);

-- Every write, one short row. `previous` is the write before this one of the same life (0: none), `at` when it was made
-- (Unix milliseconds). Of keys without history only the newest write is here.
CREATE TABLE log (
    rev INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    at INTEGER NOT NULL
);

-- What a write put, as it was put: of current values, and of those superseded lately.
-- `sealed` is the key that the bytes are encrypted with; 0: none.
CREATE TABLE value (
    rev INTEGER PRIMARY KEY,
    sealed INTEGER NOT NULL,
    bytes BLOB NOT NULL
);

-- What was superseded at revision `until`, compressed, with the value of `base` as dictionary (0: without).
-- Written in the order of `until`, and forgotten in it.
CREATE TABLE past (
    until INTEGER PRIMARY KEY,
    base INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    bytes BLOB NOT NULL
);

-- The dictionaries of lives; `id` is the `until` of the first value that was compressed with it.
CREATE TABLE base (
    id INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    bytes BLOB NOT NULL
);
CREATE INDEX base_life ON base (created, id);

INSERT INTO life (created, key) SELECT created, min(key) FROM log_1 GROUP BY created;
INSERT INTO value (rev, sealed, bytes) SELECT rev, 0, value FROM log_1 WHERE deleted = 0;
INSERT INTO log (rev, created, previous, deleted, at)
    SELECT rev, created, previous, deleted, coalesce(
        (SELECT c.at FROM commit_time AS c WHERE c.rev >= log_1.rev ORDER BY c.rev LIMIT 1),
        (SELECT max(c.at) FROM commit_time AS c), 0) * 1000
    FROM log_1;
CREATE INDEX log_life ON log (created, rev);
DROP TABLE log_1;
DROP TABLE commit_time;

-- How far superseded values are compressed.
ALTER TABLE horizon ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;
-- Revisions up to here may have been issued to writes that are not in the log.
ALTER TABLE horizon ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;
-- With which key, and of which prefixes, all that is to be sealed is sealed.
ALTER TABLE horizon ADD COLUMN sealed TEXT NOT NULL DEFAULT '';

-- Revisions that no state is known of: they were issued after the backup that this database comes from.
CREATE TABLE gap (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
);
