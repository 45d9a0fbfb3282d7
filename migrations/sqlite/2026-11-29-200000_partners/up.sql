-- The partner that a message is sent for, whose brand it names.
ALTER TABLE messages ADD COLUMN merchant TEXT;

-- Signatures of partners that were accepted, until they are too old to be accepted again.
CREATE TABLE accepted_signatures (
  digest BLOB NOT NULL PRIMARY KEY,
  forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX accepted_signatures_forget_at ON accepted_signatures (forget_at);
