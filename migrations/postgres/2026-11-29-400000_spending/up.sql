-- What messages cost, in millionths, by hour and day. Rows of the present are rewritten with every message.
CREATE TABLE spending (
  purse text NOT NULL,
  span text NOT NULL CHECK (span IN ('hour', 'day')),
  start timestamptz NOT NULL,
  amount bigint NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (purse, span, start)
) WITH (fillfactor = 50);
