DROP TABLE reservations;
DROP TABLE spending;
