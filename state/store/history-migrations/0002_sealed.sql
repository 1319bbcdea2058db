-- The key that the bytes of a row are encrypted with; 0: none.
ALTER TABLE blob ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE record ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;

-- The key with which all is sealed.
CREATE TABLE seal (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sealed INTEGER NOT NULL
);
INSERT INTO seal (id, sealed) VALUES (1, 0);
