-- What messages cost, in millionths, by hour and day.
CREATE TABLE spending (
  purse TEXT NOT NULL,
  span TEXT NOT NULL CHECK (span IN ('hour', 'day')),
  start INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (purse, span, start)
) STRICT, WITHOUT ROWID;
