-- Decision 33.
CREATE DOMAIN only_one AS smallint CHECK (VALUE = 1);

-- What the database knows its key by, one row at most. Decision 38.
CREATE TABLE key_mark (
  one only_one NOT NULL PRIMARY KEY,
  mark digest NOT NULL
);
