-- Codes that were sent, and when they came back. Each sign-up adds a row, so there are two indexes and no more: the key keeps the order in
-- which pages are read and rows are forgotten, and grows at its end only; the other finds an attempt's codes when one of them comes back. When that was is
-- in no index, so that it is noted within the page, for which each page keeps a little room.
CREATE TABLE sent_codes (
  message uuid NOT NULL,
  attempt uuid NOT NULL,
  at timestamptz NOT NULL,
  country text CHECK (country ~ '^[A-Z]{2}$'),
  number_range text NOT NULL CHECK (number_range ~ '^[1-9][0-9]{2,10}$'),
  block text NOT NULL,
  price bigint CHECK (price >= 0),
  confirmed_at timestamptz,
  PRIMARY KEY (at, message)
) WITH (fillfactor = 90);
CREATE INDEX sent_codes_attempt ON sent_codes (attempt);

-- Codes that were held back, as many alike as there were within a second; or that would have been, had the guard not only observed.
CREATE TABLE held_codes (
  id uuid NOT NULL,
  at timestamptz NOT NULL,
  country text CHECK (country ~ '^[A-Z]{2}$'),
  number_range text NOT NULL CHECK (number_range ~ '^[1-9][0-9]{2,10}$'),
  block text NOT NULL,
  budget text NOT NULL,
  reason text NOT NULL CHECK (reason IN ('slowed', 'stopped')),
  enforced boolean NOT NULL,
  price bigint NOT NULL CHECK (price >= 0),
  count bigint NOT NULL CHECK (count > 0),
  PRIMARY KEY (at, id)
);
