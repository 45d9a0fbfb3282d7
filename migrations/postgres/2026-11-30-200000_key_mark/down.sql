DROP TABLE key_mark;
DROP DOMAIN only_one;
