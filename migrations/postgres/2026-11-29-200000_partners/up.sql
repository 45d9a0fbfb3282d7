-- The partner that a message is sent for, whose brand it names.
ALTER TABLE messages ADD COLUMN merchant text CHECK (merchant ~ '^[A-Za-z0-9_-]{1,64}$');

-- Signatures of partners that were accepted, until they are too old to be accepted again.
CREATE TABLE accepted_signatures (
  digest bytea NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
  forget_at timestamptz NOT NULL
);
CREATE INDEX accepted_signatures_forget_at ON accepted_signatures (forget_at);
