-- Decision 33.
CREATE DOMAIN spending_span AS text CHECK (VALUE IN ('hour', 'day'));

-- What messages cost, in millionths, by hour and day. Rows of the present are rewritten with every message.
CREATE TABLE spending (
  purse text NOT NULL,
  span spending_span NOT NULL,
  start timestamptz NOT NULL,
  amount whole_number NOT NULL,
  PRIMARY KEY (purse, span, start)
) WITH (fillfactor = 50);

-- What a message that waits has spent, and after how many tries it is certain that nobody has taken it.
CREATE TABLE reservations (
  message uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  purse text NOT NULL,
  span spending_span NOT NULL,
  start timestamptz NOT NULL,
  amount whole_number NOT NULL,
  tries whole_number NOT NULL,
  PRIMARY KEY (message, purse, span)
) WITH (
  -- Rows come and go with those of messages.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);
