-- Every write, one row: a put carries its value, a delete only marks.
-- `created` is the revision that created the key, `previous` the write before this one of the same life (0: none).
CREATE TABLE log (
    rev INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX log_key ON log (key, rev);

-- How far history has been forgotten. `oldest` is set before any row goes; `cursor` follows as rows go.
-- `oldest` is also the high-water mark that keeps a revision from being issued twice once its row is gone.
CREATE TABLE horizon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    oldest INTEGER NOT NULL,
    cursor INTEGER NOT NULL
);
INSERT INTO horizon (id, oldest, cursor) VALUES (1, 0, 0);

-- Coarse commit times (Unix seconds): `rev` had been written by `at`.
CREATE TABLE commit_time (
    at INTEGER PRIMARY KEY,
    rev INTEGER NOT NULL
);
