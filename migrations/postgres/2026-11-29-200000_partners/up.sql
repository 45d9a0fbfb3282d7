-- Decision 33.
CREATE DOMAIN merchant_id AS text CHECK (VALUE ~ '^[A-Za-z0-9_-]{1,64}$');

-- The partner that a message is sent for, whose brand it names.
ALTER TABLE messages ADD COLUMN merchant merchant_id;

-- Signatures of partners that were accepted, until they are too old to be accepted again.
CREATE TABLE accepted_signatures (
  digest digest NOT NULL PRIMARY KEY,
  forget_at timestamptz NOT NULL
);
CREATE INDEX accepted_signatures_forget_at ON accepted_signatures (forget_at);
