-- A journal of the Python program 0.2.5, left with one cell running and one queued.
BEGIN TRANSACTION;
CREATE TABLE artifacts(
  artifact_id TEXT PRIMARY KEY,
  sha256      TEXT NOT NULL,
  mime        TEXT NOT NULL,
  rel_path    TEXT NOT NULL,
  bytes_len   INTEGER NOT NULL
);
CREATE TABLE executions(
  exec_id         TEXT PRIMARY KEY,
  session_id      TEXT NOT NULL,
  seq             INTEGER NOT NULL,
  code            TEXT NOT NULL,
  cell_origin_uri TEXT,
  cell_range      TEXT,
  cell_hash       TEXT,
  cell_index      INTEGER,
  submitted_by    TEXT,
  status          TEXT NOT NULL,
  execution_count INTEGER,
  kernel_msg_id   TEXT,
  allow_stdin     INTEGER NOT NULL DEFAULT 0,
  started_at      REAL,
  finished_at     REAL,
  folded_json     TEXT
, imported INTEGER NOT NULL DEFAULT 0);
INSERT INTO "executions" VALUES('e1','alive',1,'y = 17
print(''done before'')',NULL,NULL,'a7ae2f8c19125b8ce7935e5871f54a928e10856740ab8827d581692d45091284',NULL,NULL,'done',1,'4d5e1b0c-38f6222a04c21101ba091530_10413_2',0,1.79525785538455986975e+09,1.7952578554136381149e+09,'[{"output_type": "stream", "name": "stdout", "text": "done before\n"}]',0);
INSERT INTO "executions" VALUES('e2','alive',2,'import time, os
print(''running'', flush=True)
while not os.path.exists(''/lab/go''): time.sleep(0.02)
print(''finished'', y)
y + 1',NULL,NULL,'42b0564bad4b8109ac3f1a105205e5fb90d6be61a80ec6ddeccb21d2540f456e',NULL,NULL,'running',NULL,'4d5e1b0c-38f6222a04c21101ba091530_10413_3',0,1.79525785542514109607e+09,NULL,NULL,0);
INSERT INTO "executions" VALUES('e3','alive',3,'print(''queued'')',NULL,NULL,'8021244943a556aec45e9023b4faf8250634fb7fc6e0e16580f088acbec1cecc',NULL,NULL,'queued',NULL,NULL,0,NULL,NULL,NULL,0);
CREATE TABLE messages(
  msg_seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id   TEXT NOT NULL,
  exec_id      TEXT,
  msg_type     TEXT NOT NULL,
  content_json TEXT NOT NULL,
  artifact_ref TEXT,
  target_exec  TEXT,
  ts           REAL NOT NULL
);
INSERT INTO "messages" VALUES(1,'alive','e1','tithon.queued','{"code": "y = 17\nprint(''done before'')", "origin": null}',NULL,NULL,1.79525785538382792469e+09);
INSERT INTO "messages" VALUES(2,'alive','e1','tithon.started','{"ts": 1795257855.3845599, "kernel_msg_id": "4d5e1b0c-38f6222a04c21101ba091530_10413_2"}',NULL,NULL,1.79525785538462734217e+09);
INSERT INTO "messages" VALUES(3,'alive','e1','status','{"execution_state": "busy"}',NULL,NULL,1.79525785538717079165e+09);
INSERT INTO "messages" VALUES(4,'alive','e1','stream','{"name": "stdout", "text": "done before\n"}',NULL,NULL,1.79525785540832877153e+09);
INSERT INTO "messages" VALUES(5,'alive','e1','status','{"execution_state": "idle"}',NULL,NULL,1.79525785541335606578e+09);
INSERT INTO "messages" VALUES(6,'alive','e1','tithon.done','{"status": "ok", "execution_count": 1, "ts": 1795257855.413638}',NULL,NULL,1.7952578554137439728e+09);
INSERT INTO "messages" VALUES(7,'alive','e2','tithon.queued','{"code": "import time, os\nprint(''running'', flush=True)\nwhile not os.path.exists(''/lab/go''): time.sleep(0.02)\nprint(''finished'', y)\ny + 1", "origin": null}',NULL,NULL,1.79525785542392683031e+09);
INSERT INTO "messages" VALUES(8,'alive','e2','tithon.started','{"ts": 1795257855.425141, "kernel_msg_id": "4d5e1b0c-38f6222a04c21101ba091530_10413_3"}',NULL,NULL,1.79525785542520356172e+09);
INSERT INTO "messages" VALUES(9,'alive','e2','status','{"execution_state": "busy"}',NULL,NULL,1.79525785542906808848e+09);
INSERT INTO "messages" VALUES(10,'alive','e2','stream','{"name": "stdout", "text": "running\n"}',NULL,NULL,1.79525785543216609948e+09);
INSERT INTO "messages" VALUES(11,'alive','e3','tithon.queued','{"code": "print(''queued'')", "origin": null}',NULL,NULL,1.79525785543287491803e+09);
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE INDEX idx_messages_exec ON messages(exec_id);
CREATE INDEX idx_messages_type_seq ON messages(msg_type, msg_seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',11);
COMMIT;
