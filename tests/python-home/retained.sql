-- A journal of the Python program 0.2.5, after its retention deleted output.
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
INSERT INTO "executions" VALUES('e1','default',1,'from IPython.display import display, HTML
print("a")
h=display(HTML("x"),display_id="d1")',NULL,NULL,'4c91beb65343132206224c222531a1ae598d258c0a9b4e4c5561da59efcac2a1',NULL,NULL,'done',1,'2dab109f-d683ad40a9a27b70780e8ba4_13233_2',0,1.79525796324799013139e+09,1.79525796326002025598e+09,'[{"output_type": "stream", "name": "stdout", "text": "a\n"}, {"output_type": "display_data", "data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "x"}, "metadata": {}, "display_id": "d1"}]',0);
INSERT INTO "executions" VALUES('e2','default',2,'print("b", end="")',NULL,NULL,'00b291e6ebfc4da6277d5340bb96dc02d4526fcc907cb3b46ec3536e3fe915fc',NULL,NULL,'done',2,'2dab109f-d683ad40a9a27b70780e8ba4_13233_3',0,1.79525796338177466397e+09,1.79525796339903402328e+09,'[{"output_type": "stream", "name": "stdout", "text": "b"}]',0);
INSERT INTO "executions" VALUES('e3','default',3,'print("c")',NULL,NULL,'75b30d594ba4e38a34105663a179b0d7a06978be7133e8247d17aed7b86adac7',NULL,NULL,'done',1,'ec772bd5-80a4bb35dde2c5cecc34cba1_13258_2',0,1.79525796579387855525e+09,1.79525796580397796627e+09,'[{"output_type": "stream", "name": "stdout", "text": "c\n"}]',0);
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
INSERT INTO "messages" VALUES(1,'default','e1','tithon.queued','{"code": "from IPython.display import display, HTML\nprint(\"a\")\nh=display(HTML(\"x\"),display_id=\"d1\")", "origin": null}',NULL,NULL,1.79525796324717640877e+09);
INSERT INTO "messages" VALUES(2,'default','e1','tithon.started','{"ts": 1795257963.2479901, "kernel_msg_id": "2dab109f-d683ad40a9a27b70780e8ba4_13233_2"}',NULL,NULL,1.79525796324805974961e+09);
INSERT INTO "messages" VALUES(3,'default','e1','status','{"execution_state": "busy"}',NULL,NULL,1.79525796325384736059e+09);
INSERT INTO "messages" VALUES(6,'default','e1','status','{"execution_state": "idle"}',NULL,NULL,1.79525796325972986219e+09);
INSERT INTO "messages" VALUES(7,'default','e1','tithon.done','{"status": "ok", "execution_count": 1, "ts": 1795257963.2600203}',NULL,NULL,1.79525796326011943815e+09);
INSERT INTO "messages" VALUES(8,'default','e2','tithon.queued','{"code": "print(\"b\", end=\"\")", "origin": null}',NULL,NULL,1.79525796338058829309e+09);
INSERT INTO "messages" VALUES(9,'default','e2','tithon.started','{"ts": 1795257963.3817747, "kernel_msg_id": "2dab109f-d683ad40a9a27b70780e8ba4_13233_3"}',NULL,NULL,1.79525796338332271581e+09);
INSERT INTO "messages" VALUES(10,'default','e2','status','{"execution_state": "busy"}',NULL,NULL,1.79525796339168286323e+09);
INSERT INTO "messages" VALUES(12,'default','e2','status','{"execution_state": "idle"}',NULL,NULL,1.79525796339868164066e+09);
INSERT INTO "messages" VALUES(13,'default','e2','tithon.done','{"status": "ok", "execution_count": 2, "ts": 1795257963.399034}',NULL,NULL,1.79525796339914131159e+09);
INSERT INTO "messages" VALUES(14,'default',NULL,'tithon.kernel','{"status": "shutdown", "deliberate": true}',NULL,NULL,1.79525796355102157594e+09);
INSERT INTO "messages" VALUES(15,'default','e3','tithon.queued','{"code": "print(\"c\")", "origin": null}',NULL,NULL,1.79525796579299759861e+09);
INSERT INTO "messages" VALUES(16,'default','e3','tithon.started','{"ts": 1795257965.7938786, "kernel_msg_id": "ec772bd5-80a4bb35dde2c5cecc34cba1_13258_2"}',NULL,NULL,1.79525796579394936562e+09);
INSERT INTO "messages" VALUES(17,'default','e3','status','{"execution_state": "busy"}',NULL,NULL,1.7952579657987987995e+09);
INSERT INTO "messages" VALUES(18,'default','e3','stream','{"name": "stdout", "text": "c\n"}',NULL,NULL,1.7952579658007512093e+09);
INSERT INTO "messages" VALUES(19,'default','e3','status','{"execution_state": "idle"}',NULL,NULL,1.79525796580367326743e+09);
INSERT INTO "messages" VALUES(20,'default','e3','tithon.done','{"status": "ok", "execution_count": 1, "ts": 1795257965.803978}',NULL,NULL,1.79525796580407977099e+09);
INSERT INTO "messages" VALUES(21,'default',NULL,'tithon.kernel','{"status": "shutdown", "deliberate": true}',NULL,NULL,1.79525796603828859329e+09);
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
INSERT INTO "meta" VALUES('output_seed','{"seq": 14, "folds": {"e1": {"outputs": [{"output_type": "stream", "name": "stdout", "text": "a\n"}, {"output_type": "display_data", "data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "x"}, "metadata": {}, "display_id": "d1"}], "state": {"owners": [null, null], "stream_cursors": [0, null], "claims": [], "pending_clear": false, "pending_owner_clear": []}}, "e2": {"outputs": [{"output_type": "stream", "name": "stdout", "text": "b"}], "state": {"owners": [null], "stream_cursors": [1], "claims": [], "pending_clear": false, "pending_owner_clear": []}}}, "display_registry": {"d1": "e1"}}');
INSERT INTO "meta" VALUES('history_floor','11');
INSERT INTO "meta" VALUES('history_cleanup','{"at": 1795257965.7896202, "deleted_messages": 3, "total_deleted_messages": 3}');
CREATE INDEX idx_messages_exec ON messages(exec_id);
CREATE INDEX idx_messages_type_seq ON messages(msg_type, msg_seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',21);
COMMIT;
