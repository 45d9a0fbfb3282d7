-- Codes that were sent, and when they came back. Rows lie in the order in which pages are read and rows are forgotten, and are added at the end; the index
-- finds an attempt's codes when one of them comes back.
CREATE TABLE sent_codes (
  message BLOB NOT NULL,
  attempt BLOB NOT NULL,
  at INTEGER NOT NULL,
  country TEXT CHECK (country GLOB '[A-Z][A-Z]'),
  number_range TEXT NOT NULL CHECK (number_range GLOB '[1-9][0-9][0-9]*' AND number_range NOT GLOB '*[^0-9]*'),
  block TEXT NOT NULL,
  price INTEGER CHECK (price >= 0),
  confirmed_at INTEGER,
  PRIMARY KEY (at, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_codes_attempt ON sent_codes (attempt);

-- Codes that were held back, as many alike as there were within a second; or that would have been, had the guard not only observed.
CREATE TABLE held_codes (
  id BLOB NOT NULL,
  at INTEGER NOT NULL,
  country TEXT CHECK (country GLOB '[A-Z][A-Z]'),
  number_range TEXT NOT NULL CHECK (number_range GLOB '[1-9][0-9][0-9]*' AND number_range NOT GLOB '*[^0-9]*'),
  block TEXT NOT NULL,
  budget TEXT NOT NULL,
  reason TEXT NOT NULL CHECK (reason IN ('slowed', 'stopped')),
  enforced INTEGER NOT NULL CHECK (enforced IN (0, 1)),
  price INTEGER NOT NULL CHECK (price >= 0),
  count INTEGER NOT NULL CHECK (count > 0),
  PRIMARY KEY (at, id)
) STRICT, WITHOUT ROWID;
