-- Decision 33.
CREATE DOMAIN number_range AS text CHECK (VALUE ~ '^[1-9][0-9]{2,10}$');
CREATE DOMAIN hold_reason AS text CHECK (VALUE IN ('slowed', 'stopped'));

-- Codes that were sent, and when they came back. Each sign-up adds a row, so there are two indexes and no more: the key keeps the order in
-- which pages are read and rows are forgotten, and grows at its end only; the other finds an attempt's codes when one of them comes back. When that was is
-- in no index, so that it is noted within the page, for which each page keeps a little room.
CREATE TABLE sent_codes (
  message uuid NOT NULL,
  attempt uuid NOT NULL,
  at timestamptz NOT NULL,
  country country_code,
  number_range number_range NOT NULL,
  block text NOT NULL,
  price whole_number,
  confirmed_at timestamptz,
  PRIMARY KEY (at, message)
) WITH (fillfactor = 90);
CREATE INDEX sent_codes_attempt ON sent_codes (attempt);

-- Codes that were held back, as many alike as there were within a second; or that would have been, had the guard not only observed.
CREATE TABLE held_codes (
  id uuid NOT NULL,
  at timestamptz NOT NULL,
  country country_code,
  number_range number_range NOT NULL,
  block text NOT NULL,
  budget text NOT NULL,
  reason hold_reason NOT NULL,
  enforced boolean NOT NULL,
  price whole_number NOT NULL,
  count positive_number NOT NULL,
  PRIMARY KEY (at, id)
);
