-- What the database knows its key by, one row at most. Decision 38.
CREATE TABLE key_mark (
  one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  mark BLOB NOT NULL CHECK (length(mark) = 32)
) STRICT, WITHOUT ROWID;
