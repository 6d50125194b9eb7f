PRAGMA journal_mode=delete; PRAGMA synchronous=NORMAL; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, v INTEGER); CREATE INDEX i ON t (v);
