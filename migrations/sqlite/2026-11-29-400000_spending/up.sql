-- What messages cost, in millionths, by hour and day.
CREATE TABLE spending (
  purse TEXT NOT NULL,
  span TEXT NOT NULL CHECK (span IN ('hour', 'day')),
  start INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (purse, span, start)
) STRICT, WITHOUT ROWID;

-- What a message that waits has spent, and after how many tries it is certain that nobody has taken it.
CREATE TABLE reservations (
  message BLOB NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
  purse TEXT NOT NULL,
  span TEXT NOT NULL,
  start INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  tries INTEGER NOT NULL CHECK (tries >= 0),
  PRIMARY KEY (message, purse, span)
) STRICT, WITHOUT ROWID;
