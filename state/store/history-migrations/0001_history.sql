-- Bytes under the hex SHA-256 of themselves, compressed; `size` is how many they are uncompressed.
CREATE TABLE blob (
    digest TEXT NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL,
    compressed BLOB NOT NULL
);

-- Values that are replaced in place.
CREATE TABLE record (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (collection, key)
);

-- Values that are only ever added. `newest` outlives trimmed entries, so that no number is given twice.
CREATE TABLE series (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    newest INTEGER NOT NULL
);
CREATE TABLE entry (
    series INTEGER NOT NULL,
    number INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (series, number)
);
