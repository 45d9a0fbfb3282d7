-- The provider whose answer to the last try was lost, until its report or the next try tells.
ALTER TABLE messages ADD COLUMN in_doubt_with TEXT;

-- What became of the messages that have left the queue. Recipients are masked.
CREATE TABLE deliveries (
  id BLOB NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  attempt BLOB,
  recipient TEXT NOT NULL,
  provider TEXT,
  reference TEXT,
  state TEXT NOT NULL CHECK (state IN ('sent', 'delivered', 'failed', 'expired')),
  reason TEXT,
  tries INTEGER NOT NULL,
  queued_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_reference ON deliveries (provider, reference) WHERE reference IS NOT NULL;
CREATE INDEX deliveries_attempt ON deliveries (attempt) WHERE attempt IS NOT NULL;
CREATE INDEX deliveries_queued_at ON deliveries (queued_at);
CREATE INDEX messages_attempt ON messages (attempt) WHERE attempt IS NOT NULL;
