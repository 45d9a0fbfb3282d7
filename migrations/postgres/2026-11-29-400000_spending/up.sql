-- What messages cost, in millionths, by hour and day. Rows of the present are rewritten with every message.
CREATE TABLE spending (
  purse text NOT NULL,
  span text NOT NULL CHECK (span IN ('hour', 'day')),
  start timestamptz NOT NULL,
  amount bigint NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (purse, span, start)
) WITH (fillfactor = 50);

-- What a message that waits has spent, and after how many tries it is certain that nobody has taken it.
CREATE TABLE reservations (
  message uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  purse text NOT NULL,
  span text NOT NULL,
  start timestamptz NOT NULL,
  amount bigint NOT NULL CHECK (amount >= 0),
  tries bigint NOT NULL CHECK (tries >= 0),
  PRIMARY KEY (message, purse, span)
) WITH (
  -- Rows come and go with those of messages.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);
