-- The provider whose answer to the last try was lost, until its report or the next try tells.
ALTER TABLE messages ADD COLUMN in_doubt_with text;

-- The recipient with most of it hidden, for the record that stays.
ALTER TABLE messages ADD COLUMN masked text NOT NULL DEFAULT '?';

-- Decision 33.
CREATE DOMAIN delivery_state AS text CHECK (VALUE IN ('sent', 'delivered', 'failed', 'expired'));

-- What became of the messages that have left the queue. Recipients are masked.
CREATE TABLE deliveries (
  id uuid NOT NULL PRIMARY KEY,
  kind text NOT NULL,
  attempt uuid,
  recipient text NOT NULL,
  provider text,
  reference text,
  state delivery_state NOT NULL,
  reason text,
  tries whole_number NOT NULL,
  queued_at timestamptz NOT NULL,
  changed_at timestamptz NOT NULL
);
CREATE INDEX deliveries_reference ON deliveries (provider, reference) WHERE reference IS NOT NULL;
CREATE INDEX deliveries_attempt ON deliveries (attempt) WHERE attempt IS NOT NULL;
CREATE INDEX deliveries_queued_at ON deliveries (queued_at);
CREATE INDEX messages_attempt ON messages (attempt) WHERE attempt IS NOT NULL;
