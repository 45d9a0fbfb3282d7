DROP TABLE key_mark;
