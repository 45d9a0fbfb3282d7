DROP TABLE reservations;
DROP TABLE spending;
DROP DOMAIN spending_span;
