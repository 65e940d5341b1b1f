-- A journal of the Python program 0.2.5, made by driving it: streams, errors, an image, displays, widgets, a batch, clears, a restart, a prompt.
BEGIN TRANSACTION;
CREATE TABLE artifacts(
  artifact_id TEXT PRIMARY KEY,
  sha256      TEXT NOT NULL,
  mime        TEXT NOT NULL,
  rel_path    TEXT NOT NULL,
  bytes_len   INTEGER NOT NULL
);
INSERT INTO "artifacts" VALUES('6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0','6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0','image/png','.tithon/outputs/e4_0_6b7fa434.png',70);
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
INSERT INTO "executions" VALUES('e1','default',1,'import sys
print(''one''); print(''err'', file=sys.stderr)
6*7',NULL,NULL,'f432afc8ae47e7fb3fc2619e5793654f928feddce0708fce56d27b33c42fbe94',NULL,NULL,'done',1,'750e19a0-70fa5d69bdc1691e96c887d1_10413_2',0,1.79525784887657666212e+09,1.79525784890702080724e+09,'[{"output_type": "stream", "name": "stdout", "text": "one\n"}, {"output_type": "stream", "name": "stderr", "text": "err\n"}, {"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "execution_count": 1}]',0);
INSERT INTO "executions" VALUES('e2','default',2,'1/0',NULL,NULL,'18d6e1cac2a8adaf25577cca14db7753507f4f03a288124ce9fe2d60babd7bb0',NULL,NULL,'error',2,'750e19a0-70fa5d69bdc1691e96c887d1_10413_3',0,1.79525784890920090675e+09,1.7952578490490646362e+09,'[{"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mZeroDivisionError\u001b[39m                         Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[2]\u001b[39m\u001b[32m, line 1\u001b[39m\n\u001b[32m----> \u001b[39m\u001b[32m1\u001b[39m \u001b[32m1\u001b[39m/\u001b[32m0\u001b[39m\n", "\u001b[31mZeroDivisionError\u001b[39m: division by zero"]}]',0);
INSERT INTO "executions" VALUES('e3','default',3,'import time
for i in range(5):
    print(f''\r{i*25}%'', end='''', flush=True)
print()
print(''abcdef\rXY'', end='''')',NULL,NULL,'ccffd19f2980165d44a4aa3f14350ab38aff150658432d2de81c8388a5e876b3',NULL,NULL,'done',3,'750e19a0-70fa5d69bdc1691e96c887d1_10413_4',0,1.7952578490519452095e+09,1.7952578490643670559e+09,'[{"output_type": "stream", "name": "stdout", "text": "100%\nXYcdef"}]',0);
INSERT INTO "executions" VALUES('e4','default',4,'from IPython.display import display, Image, HTML, update_display, clear_output
import base64
display(Image(base64.b64decode(''iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='')))',NULL,NULL,'fbb4289003d8b51f04a8157854533893e50748d35173c4f2c0e77270553c8fe5',NULL,NULL,'done',4,'750e19a0-70fa5d69bdc1691e96c887d1_10413_5',0,1.79525784906891798975e+09,1.79525784907839226723e+09,'[{"output_type": "display_data", "data": {"image/png": {"$tithon_artifact": {"artifact_id": "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0", "mime": "image/png", "rel_path": ".tithon/outputs/e4_0_6b7fa434.png", "sha256": "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0"}}, "text/plain": "<IPython.core.display.Image object>"}, "metadata": {}}]',0);
INSERT INTO "executions" VALUES('e5','default',5,'h = display(HTML(''<b>first</b>''), display_id=''shared'')
print(''owner'')',NULL,NULL,'b7de4ced2ba6b90f9eb6490f5032bcf3dc5db9c3e424ff986929f87d94f2f4c4',NULL,NULL,'done',5,'750e19a0-70fa5d69bdc1691e96c887d1_10413_6',0,1.79525784908741974825e+09,1.79525784910195398327e+09,'[{"output_type": "display_data", "data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>second</b>"}, "metadata": {}, "display_id": "shared"}, {"output_type": "stream", "name": "stdout", "text": "owner\n"}]',0);
INSERT INTO "executions" VALUES('e6','default',6,'update_display(HTML(''<b>second</b>''), display_id=''shared'')
print(''updater ü 🦀'')',NULL,NULL,'917dbfda097de7fcaefa2524146e9593c50402ec57fe2a500a72d292f666ad92',NULL,NULL,'done',6,'750e19a0-70fa5d69bdc1691e96c887d1_10413_7',0,1.79525784910571742057e+09,1.79525784912830424304e+09,'[{"output_type": "stream", "name": "stdout", "text": "updater \u00fc \ud83e\udd80\n"}]',0);
INSERT INTO "executions" VALUES('e7','default',7,'from comm import create_comm
w = create_comm(target_name=''jupyter.widget'', data={''state'': {''_model_name'':''IntSliderModel'',''_model_module'':''@jupyter-widgets/controls'',''_model_module_version'':''2.0.0'',''value'':1,''blob'':None}, ''buffer_paths'':[[''blob'']]}, buffers=[b''\x01\x02''], metadata={''version'':''2.1.0''})
w.send({''method'':''update'',''state'':{''value'':7},''buffer_paths'':[]})
o = create_comm(target_name=''jupyter.widget'', data={''state'': {''_model_name'':''OutputModel'',''_model_module'':''@jupyter-widgets/output'',''_model_module_version'':''1.0.0''}}, metadata={''version'':''2.1.0''})
print(''outside'')
o.send({''method'':''update'',''state'':{''msg_id'':''x''},''buffer_paths'':[]})
print(''inside'')
o.send({''method'':''update'',''state'':{''msg_id'':''''},''buffer_paths'':[]})
print(''outside2'')',NULL,NULL,'451755ab0d4f738e54ebd503d813a13ef22075b2329cb635d65e08ac87f93c22',NULL,NULL,'done',7,'750e19a0-70fa5d69bdc1691e96c887d1_10413_8',0,1.7952578491303219795e+09,1.79525784914185690876e+09,'[{"output_type": "stream", "name": "stdout", "text": "outside\ninside\noutside2\n"}]',0);
INSERT INTO "executions" VALUES('e8','default',8,'print(''b1'')',NULL,NULL,'d279093b6b5c73e08b8fb80f28d099cb496bc48b8a99e94fbf2cf460c8dba681',NULL,NULL,'done',8,'750e19a0-70fa5d69bdc1691e96c887d1_10413_9',0,1.7952578491444141865e+09,1.79525784917525434497e+09,'[{"output_type": "stream", "name": "stdout", "text": "b1\n"}]',0);
INSERT INTO "executions" VALUES('e9','default',9,'raise ValueError(''stop'')',NULL,NULL,'58e8d1161ebfacd3cbd970f7009abc9b6c8644a802bb9cda7d51d87cb77ec8fa',NULL,NULL,'error',9,'750e19a0-70fa5d69bdc1691e96c887d1_10413_10',0,1.79525784917607140545e+09,1.79525784919912314414e+09,'[{"output_type": "error", "ename": "ValueError", "evalue": "stop", "traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mValueError\u001b[39m                                Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[9]\u001b[39m\u001b[32m, line 1\u001b[39m\n\u001b[32m----> \u001b[39m\u001b[32m1\u001b[39m \u001b[38;5;28;01mraise\u001b[39;00m ValueError(\u001b[33m''stop''\u001b[39m)\n", "\u001b[31mValueError\u001b[39m: stop"]}]',0);
INSERT INTO "executions" VALUES('e10','default',10,'print(''never'')',NULL,NULL,'ff936d4d400860d79f6761a08c14caf9e3d3e0e647388ee050fbff39d557731a',NULL,NULL,'skipped',NULL,NULL,0,NULL,1.79525784919940328593e+09,'[]',0);
INSERT INTO "executions" VALUES('e11','default',11,'print(''gone'')
clear_output(wait=True)
print(''stays'')',NULL,NULL,'4ecbf295105b1e593e16199b645e40b8341ecd24f64105f4a2c66caa876ed1ec',NULL,NULL,'done',10,'750e19a0-70fa5d69bdc1691e96c887d1_10413_11',0,1.79525784920327711102e+09,1.7952578492082550526e+09,'[{"output_type": "stream", "name": "stdout", "text": "stays\n"}]',0);
INSERT INTO "executions" VALUES('e12','default',12,'print(''to be cleared'')',NULL,NULL,'29293989524e89b3e8cdd763860e252bb68858578fc98b2610eaf96742932f88',NULL,NULL,'done',11,'750e19a0-70fa5d69bdc1691e96c887d1_10413_12',0,1.79525784921207165719e+09,1.79525784921609473233e+09,'[]',0);
INSERT INTO "executions" VALUES('e13','default',13,'print(''before restart'')',NULL,NULL,'7c7c01fc6926b5881f2e8f26fad446cfdfab06aea1dd2dfb0526592cadb4927c',NULL,NULL,'done',12,'750e19a0-70fa5d69bdc1691e96c887d1_10413_13',0,1.79525784922120141984e+09,1.79525784923080444334e+09,'[{"output_type": "stream", "name": "stdout", "text": "before restart\n"}]',0);
INSERT INTO "executions" VALUES('e14','default',14,'print(''after restart'')
x = 41',NULL,NULL,'bdddf6c0922a88eb2afc0552dcc5822a5ad59d08c8becbf2389b1bd009aa4763',NULL,NULL,'done',1,'7b84a7a1-56365c45665a21d763520ca6_10413_1',0,1.79525785064623928069e+09,1.79525785066854071613e+09,'[{"output_type": "stream", "name": "stdout", "text": "after restart\n"}]',0);
INSERT INTO "executions" VALUES('e15','default',15,'import time
print(''sleeping'', flush=True)
time.sleep(60)',NULL,NULL,'4e20ed6d8fb148305ea1770fbb7625d84263ecb86c70600eab3d0a3a574bbfc8',NULL,NULL,'error',2,'7b84a7a1-56365c45665a21d763520ca6_10413_2',0,1.79525785067148542411e+09,1.79525785074529194837e+09,'[{"output_type": "stream", "name": "stdout", "text": "sleeping\n"}, {"output_type": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mKeyboardInterrupt\u001b[39m                         Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[2]\u001b[39m\u001b[32m, line 3\u001b[39m\n\u001b[32m      1\u001b[39m \u001b[38;5;28;01mimport\u001b[39;00m time\n\u001b[32m      2\u001b[39m print(\u001b[33m''sleeping''\u001b[39m, flush=\u001b[38;5;28;01mTrue\u001b[39;00m)\n\u001b[32m----> \u001b[39m\u001b[32m3\u001b[39m time.sleep(\u001b[32m60\u001b[39m)\n", "\u001b[31mKeyboardInterrupt\u001b[39m: "]}]',0);
INSERT INTO "executions" VALUES('e16','default',16,'print(input(''name? ''))',NULL,NULL,'fb4c54e64616035086a1b5b5c3fddbb1eea2b1f606f71a635fc317d782134349',NULL,NULL,'done',3,'7b84a7a1-56365c45665a21d763520ca6_10413_3',1,1.79525785075288319588e+09,1.7952578507641875744e+09,'[{"output_type": "stream", "name": "stdout", "text": "Ada\n"}]',0);
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
INSERT INTO "messages" VALUES(1,'default','e1','tithon.queued','{"code": "import sys\nprint(''one''); print(''err'', file=sys.stderr)\n6*7", "origin": null}',NULL,NULL,1.79525784887321496014e+09);
INSERT INTO "messages" VALUES(2,'default','e1','tithon.started','{"ts": 1795257848.8765767, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_2"}',NULL,NULL,1.79525784887670564649e+09);
INSERT INTO "messages" VALUES(3,'default','e1','status','{"execution_state": "busy"}',NULL,NULL,1.79525784888820791242e+09);
INSERT INTO "messages" VALUES(4,'default','e1','stream','{"name": "stdout", "text": "one\n"}',NULL,NULL,1.79525784890423417087e+09);
INSERT INTO "messages" VALUES(5,'default','e1','stream','{"name": "stderr", "text": "err\n"}',NULL,NULL,1.79525784890489697454e+09);
INSERT INTO "messages" VALUES(6,'default','e1','execute_result','{"data": {"text/plain": "42"}, "metadata": {}, "execution_count": 1}',NULL,NULL,1.79525784890610718728e+09);
INSERT INTO "messages" VALUES(7,'default','e1','status','{"execution_state": "idle"}',NULL,NULL,1.79525784890652060502e+09);
INSERT INTO "messages" VALUES(8,'default','e1','tithon.done','{"status": "ok", "execution_count": 1, "ts": 1795257848.9070208}',NULL,NULL,1.79525784890715312956e+09);
INSERT INTO "messages" VALUES(9,'default','e2','tithon.queued','{"code": "1/0", "origin": null}',NULL,NULL,1.79525784890851831431e+09);
INSERT INTO "messages" VALUES(10,'default','e2','tithon.started','{"ts": 1795257848.909201, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_3"}',NULL,NULL,1.79525784890927529334e+09);
INSERT INTO "messages" VALUES(11,'default','e2','status','{"execution_state": "busy"}',NULL,NULL,1.79525784891378736496e+09);
INSERT INTO "messages" VALUES(12,'default','e2','error','{"traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mZeroDivisionError\u001b[39m                         Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[2]\u001b[39m\u001b[32m, line 1\u001b[39m\n\u001b[32m----> \u001b[39m\u001b[32m1\u001b[39m \u001b[32m1\u001b[39m/\u001b[32m0\u001b[39m\n", "\u001b[31mZeroDivisionError\u001b[39m: division by zero"], "ename": "ZeroDivisionError", "evalue": "division by zero"}',NULL,NULL,1.79525784904062318805e+09);
INSERT INTO "messages" VALUES(13,'default','e2','status','{"execution_state": "idle"}',NULL,NULL,1.79525784904872155191e+09);
INSERT INTO "messages" VALUES(14,'default','e2','tithon.done','{"status": "error", "execution_count": 2, "ts": 1795257849.0490646}',NULL,NULL,1.79525784904913401603e+09);
INSERT INTO "messages" VALUES(15,'default','e3','tithon.queued','{"code": "import time\nfor i in range(5):\n    print(f''\\r{i*25}%'', end='''', flush=True)\nprint()\nprint(''abcdef\\rXY'', end='''')", "origin": null}',NULL,NULL,1.79525784905048799511e+09);
INSERT INTO "messages" VALUES(16,'default','e3','tithon.started','{"ts": 1795257849.0519452, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_4"}',NULL,NULL,1.79525784905206084256e+09);
INSERT INTO "messages" VALUES(17,'default','e3','status','{"execution_state": "busy"}',NULL,NULL,1.79525784905632901193e+09);
INSERT INTO "messages" VALUES(18,'default','e3','stream','{"name": "stdout", "text": "\r0%"}',NULL,NULL,1.79525784905862045284e+09);
INSERT INTO "messages" VALUES(19,'default','e3','stream','{"name": "stdout", "text": "\r25%"}',NULL,NULL,1.79525784905908536914e+09);
INSERT INTO "messages" VALUES(20,'default','e3','stream','{"name": "stdout", "text": "\r50%"}',NULL,NULL,1.79525784906013393402e+09);
INSERT INTO "messages" VALUES(21,'default','e3','stream','{"name": "stdout", "text": "\r75%"}',NULL,NULL,1.79525784906075096128e+09);
INSERT INTO "messages" VALUES(22,'default','e3','stream','{"name": "stdout", "text": "\r100%"}',NULL,NULL,1.79525784906159377096e+09);
INSERT INTO "messages" VALUES(23,'default','e3','stream','{"name": "stdout", "text": "\nabcdef\rXY"}',NULL,NULL,1.79525784906234264371e+09);
INSERT INTO "messages" VALUES(24,'default','e3','status','{"execution_state": "idle"}',NULL,NULL,1.7952578490639915466e+09);
INSERT INTO "messages" VALUES(25,'default','e3','tithon.done','{"status": "ok", "execution_count": 3, "ts": 1795257849.064367}',NULL,NULL,1.79525784906442475311e+09);
INSERT INTO "messages" VALUES(26,'default','e4','tithon.queued','{"code": "from IPython.display import display, Image, HTML, update_display, clear_output\nimport base64\ndisplay(Image(base64.b64decode(''iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='')))", "origin": null}',NULL,NULL,1.79525784906808233256e+09);
INSERT INTO "messages" VALUES(27,'default','e4','tithon.started','{"ts": 1795257849.068918, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_5"}',NULL,NULL,1.79525784906899690623e+09);
INSERT INTO "messages" VALUES(28,'default','e4','status','{"execution_state": "busy"}',NULL,NULL,1.795257849075871706e+09);
INSERT INTO "messages" VALUES(29,'default','e4','display_data','{"data": {"image/png": {"$tithon_artifact": {"artifact_id": "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0", "mime": "image/png", "rel_path": ".tithon/outputs/e4_0_6b7fa434.png", "sha256": "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0"}}, "text/plain": "<IPython.core.display.Image object>"}, "metadata": {}, "transient": {}}','6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0',NULL,1.79525784907763409615e+09);
INSERT INTO "messages" VALUES(30,'default','e4','status','{"execution_state": "idle"}',NULL,NULL,1.79525784907807946198e+09);
INSERT INTO "messages" VALUES(31,'default','e4','tithon.done','{"status": "ok", "execution_count": 4, "ts": 1795257849.0783923}',NULL,NULL,1.79525784907845783232e+09);
INSERT INTO "messages" VALUES(32,'default','e5','tithon.queued','{"code": "h = display(HTML(''<b>first</b>''), display_id=''shared'')\nprint(''owner'')", "origin": null}',NULL,NULL,1.79525784908644962314e+09);
INSERT INTO "messages" VALUES(33,'default','e5','tithon.started','{"ts": 1795257849.0874197, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_6"}',NULL,NULL,1.79525784908748841286e+09);
INSERT INTO "messages" VALUES(34,'default','e5','status','{"execution_state": "busy"}',NULL,NULL,1.7952578490918529034e+09);
INSERT INTO "messages" VALUES(35,'default','e5','display_data','{"data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>first</b>"}, "metadata": {}, "transient": {"display_id": "shared"}}',NULL,NULL,1.79525784910028696067e+09);
INSERT INTO "messages" VALUES(36,'default','e5','stream','{"name": "stdout", "text": "owner\n"}',NULL,NULL,1.79525784910083985321e+09);
INSERT INTO "messages" VALUES(37,'default','e5','status','{"execution_state": "idle"}',NULL,NULL,1.79525784910177397734e+09);
INSERT INTO "messages" VALUES(38,'default','e5','tithon.done','{"status": "ok", "execution_count": 5, "ts": 1795257849.101954}',NULL,NULL,1.7952578491020157337e+09);
INSERT INTO "messages" VALUES(39,'default','e6','tithon.queued','{"code": "update_display(HTML(''<b>second</b>''), display_id=''shared'')\nprint(''updater \u00fc \ud83e\udd80'')", "origin": null}',NULL,NULL,1.79525784910331749916e+09);
INSERT INTO "messages" VALUES(40,'default','e6','tithon.started','{"ts": 1795257849.1057174, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_7"}',NULL,NULL,1.79525784910581350331e+09);
INSERT INTO "messages" VALUES(41,'default','e6','status','{"execution_state": "busy"}',NULL,NULL,1.79525784911870503425e+09);
INSERT INTO "messages" VALUES(42,'default','e6','update_display_data','{"data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>second</b>"}, "metadata": {}, "transient": {"display_id": "shared"}}',NULL,'e5',1.79525784912071371081e+09);
INSERT INTO "messages" VALUES(43,'default','e6','stream','{"name": "stdout", "text": "updater \u00fc \ud83e\udd80\n"}',NULL,NULL,1.795257849121080637e+09);
INSERT INTO "messages" VALUES(44,'default','e6','status','{"execution_state": "idle"}',NULL,NULL,1.79525784912196207047e+09);
INSERT INTO "messages" VALUES(45,'default','e6','tithon.done','{"status": "ok", "execution_count": 6, "ts": 1795257849.1283042}',NULL,NULL,1.79525784912842035299e+09);
INSERT INTO "messages" VALUES(46,'default','e7','tithon.queued','{"code": "from comm import create_comm\nw = create_comm(target_name=''jupyter.widget'', data={''state'': {''_model_name'':''IntSliderModel'',''_model_module'':''@jupyter-widgets/controls'',''_model_module_version'':''2.0.0'',''value'':1,''blob'':None}, ''buffer_paths'':[[''blob'']]}, buffers=[b''\\x01\\x02''], metadata={''version'':''2.1.0''})\nw.send({''method'':''update'',''state'':{''value'':7},''buffer_paths'':[]})\no = create_comm(target_name=''jupyter.widget'', data={''state'': {''_model_name'':''OutputModel'',''_model_module'':''@jupyter-widgets/output'',''_model_module_version'':''1.0.0''}}, metadata={''version'':''2.1.0''})\nprint(''outside'')\no.send({''method'':''update'',''state'':{''msg_id'':''x''},''buffer_paths'':[]})\nprint(''inside'')\no.send({''method'':''update'',''state'':{''msg_id'':''''},''buffer_paths'':[]})\nprint(''outside2'')", "origin": null}',NULL,NULL,1.79525784912953877449e+09);
INSERT INTO "messages" VALUES(47,'default','e7','tithon.started','{"ts": 1795257849.130322, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_8"}',NULL,NULL,1.79525784913036918644e+09);
INSERT INTO "messages" VALUES(48,'default','e7','status','{"execution_state": "busy"}',NULL,NULL,1.79525784913700866694e+09);
INSERT INTO "messages" VALUES(49,'default','e7','comm_open','{"data": {"state": {"_model_name": "IntSliderModel", "_model_module": "@jupyter-widgets/controls", "_model_module_version": "2.0.0", "value": 1, "blob": null}, "buffer_paths": [["blob"]]}, "comm_id": "f124474a35e34f1fad0b4383a10f1113", "target_name": "jupyter.widget", "target_module": null, "_buffers_b64": ["AQI="]}',NULL,NULL,1.79525784913915300374e+09);
INSERT INTO "messages" VALUES(50,'default','e7','comm_msg','{"data": {"method": "update", "state": {"value": 7}, "buffer_paths": []}, "comm_id": "f124474a35e34f1fad0b4383a10f1113"}',NULL,NULL,1.79525784913957786557e+09);
INSERT INTO "messages" VALUES(51,'default','e7','comm_open','{"data": {"state": {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output", "_model_module_version": "1.0.0"}}, "comm_id": "878c8004fd9f4f65ac8a5060c2056f36", "target_name": "jupyter.widget", "target_module": null}',NULL,NULL,1.79525784914036655426e+09);
INSERT INTO "messages" VALUES(52,'default','e7','comm_msg','{"data": {"method": "update", "state": {"msg_id": "x"}, "buffer_paths": []}, "comm_id": "878c8004fd9f4f65ac8a5060c2056f36"}',NULL,NULL,1.79525784914060974124e+09);
INSERT INTO "messages" VALUES(53,'default','e7','comm_msg','{"data": {"method": "update", "state": {"msg_id": ""}, "buffer_paths": []}, "comm_id": "878c8004fd9f4f65ac8a5060c2056f36"}',NULL,NULL,1.79525784914108681679e+09);
INSERT INTO "messages" VALUES(54,'default','e7','stream','{"name": "stdout", "text": "outside\ninside\noutside2\n"}',NULL,NULL,1.79525784914131093022e+09);
INSERT INTO "messages" VALUES(55,'default','e7','status','{"execution_state": "idle"}',NULL,NULL,1.79525784914170694357e+09);
INSERT INTO "messages" VALUES(56,'default','e7','tithon.done','{"status": "ok", "execution_count": 7, "ts": 1795257849.141857}',NULL,NULL,1.79525784914189577099e+09);
INSERT INTO "messages" VALUES(57,'default','e8','tithon.queued','{"code": "print(''b1'')", "origin": null}',NULL,NULL,1.79525784914331269261e+09);
INSERT INTO "messages" VALUES(58,'default','e9','tithon.queued','{"code": "raise ValueError(''stop'')", "origin": null}',NULL,NULL,1.79525784914340257644e+09);
INSERT INTO "messages" VALUES(59,'default','e10','tithon.queued','{"code": "print(''never'')", "origin": null}',NULL,NULL,1.79525784914348411559e+09);
INSERT INTO "messages" VALUES(60,'default','e8','tithon.started','{"ts": 1795257849.1444142, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_9"}',NULL,NULL,1.79525784914446663855e+09);
INSERT INTO "messages" VALUES(61,'default','e8','status','{"execution_state": "busy"}',NULL,NULL,1.79525784914664268492e+09);
INSERT INTO "messages" VALUES(62,'default','e8','stream','{"name": "stdout", "text": "b1\n"}',NULL,NULL,1.79525784916631531715e+09);
INSERT INTO "messages" VALUES(63,'default','e8','status','{"execution_state": "idle"}',NULL,NULL,1.79525784917423892024e+09);
INSERT INTO "messages" VALUES(64,'default','e8','tithon.done','{"status": "ok", "execution_count": 8, "ts": 1795257849.1752543}',NULL,NULL,1.79525784917532682419e+09);
INSERT INTO "messages" VALUES(65,'default','e9','tithon.started','{"ts": 1795257849.1760714, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_10"}',NULL,NULL,1.79525784917613577843e+09);
INSERT INTO "messages" VALUES(66,'default','e9','status','{"execution_state": "busy"}',NULL,NULL,1795257849.18003);
INSERT INTO "messages" VALUES(67,'default','e9','error','{"traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mValueError\u001b[39m                                Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[9]\u001b[39m\u001b[32m, line 1\u001b[39m\n\u001b[32m----> \u001b[39m\u001b[32m1\u001b[39m \u001b[38;5;28;01mraise\u001b[39;00m ValueError(\u001b[33m''stop''\u001b[39m)\n", "\u001b[31mValueError\u001b[39m: stop"], "ename": "ValueError", "evalue": "stop"}',NULL,NULL,1.79525784919781017301e+09);
INSERT INTO "messages" VALUES(68,'default','e9','status','{"execution_state": "idle"}',NULL,NULL,1.795257849198805809e+09);
INSERT INTO "messages" VALUES(69,'default','e9','tithon.done','{"status": "error", "execution_count": 9, "ts": 1795257849.1991231}',NULL,NULL,1.79525784919918465613e+09);
INSERT INTO "messages" VALUES(70,'default','e10','tithon.done','{"status": "skipped", "execution_count": null, "ts": 1795257849.1994033}',NULL,NULL,1.79525784919947957994e+09);
INSERT INTO "messages" VALUES(71,'default','e11','tithon.queued','{"code": "print(''gone'')\nclear_output(wait=True)\nprint(''stays'')", "origin": null}',NULL,NULL,1.79525784920043921465e+09);
INSERT INTO "messages" VALUES(72,'default','e11','tithon.started','{"ts": 1795257849.203277, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_11"}',NULL,NULL,1.79525784920457172396e+09);
INSERT INTO "messages" VALUES(73,'default','e11','status','{"execution_state": "busy"}',NULL,NULL,1.79525784920613908765e+09);
INSERT INTO "messages" VALUES(74,'default','e11','stream','{"name": "stdout", "text": "gone\n"}',NULL,NULL,1.79525784920691156391e+09);
INSERT INTO "messages" VALUES(75,'default','e11','clear_output','{"wait": true}',NULL,NULL,1.79525784920725822455e+09);
INSERT INTO "messages" VALUES(76,'default','e11','stream','{"name": "stdout", "text": "stays\n"}',NULL,NULL,1.79525784920759439462e+09);
INSERT INTO "messages" VALUES(77,'default','e11','status','{"execution_state": "idle"}',NULL,NULL,1.79525784920797038075e+09);
INSERT INTO "messages" VALUES(78,'default','e11','tithon.done','{"status": "ok", "execution_count": 10, "ts": 1795257849.208255}',NULL,NULL,1.795257849208334446e+09);
INSERT INTO "messages" VALUES(79,'default','e12','tithon.queued','{"code": "print(''to be cleared'')", "origin": null}',NULL,NULL,1.79525784920927548404e+09);
INSERT INTO "messages" VALUES(80,'default','e12','tithon.started','{"ts": 1795257849.2120717, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_12"}',NULL,NULL,1.79525784921239280698e+09);
INSERT INTO "messages" VALUES(81,'default','e12','status','{"execution_state": "busy"}',NULL,NULL,1.79525784921306514737e+09);
INSERT INTO "messages" VALUES(82,'default','e12','stream','{"name": "stdout", "text": "to be cleared\n"}',NULL,NULL,1.79525784921359348299e+09);
INSERT INTO "messages" VALUES(83,'default','e12','status','{"execution_state": "idle"}',NULL,NULL,1.79525784921565961837e+09);
INSERT INTO "messages" VALUES(84,'default','e12','tithon.done','{"status": "ok", "execution_count": 11, "ts": 1795257849.2160947}',NULL,NULL,1.79525784921616077425e+09);
INSERT INTO "messages" VALUES(85,'default','e12','clear_output','{"wait": false, "tithon_scope": "cell"}',NULL,NULL,1.79525784921687245367e+09);
INSERT INTO "messages" VALUES(86,'default','e13','tithon.queued','{"code": "print(''before restart'')", "origin": null}',NULL,NULL,1.79525784922037959095e+09);
INSERT INTO "messages" VALUES(87,'default','e13','tithon.started','{"ts": 1795257849.2212014, "kernel_msg_id": "750e19a0-70fa5d69bdc1691e96c887d1_10413_13"}',NULL,NULL,1.79525784922127604487e+09);
INSERT INTO "messages" VALUES(88,'default','e13','status','{"execution_state": "busy"}',NULL,NULL,1.79525784922438549993e+09);
INSERT INTO "messages" VALUES(89,'default','e13','stream','{"name": "stdout", "text": "before restart\n"}',NULL,NULL,1.79525784922522187235e+09);
INSERT INTO "messages" VALUES(90,'default','e13','status','{"execution_state": "idle"}',NULL,NULL,1.79525784923008823387e+09);
INSERT INTO "messages" VALUES(91,'default','e13','tithon.done','{"status": "ok", "execution_count": 12, "ts": 1795257849.2308044}',NULL,NULL,1.79525784923086261747e+09);
INSERT INTO "messages" VALUES(92,'default',NULL,'tithon.kernel','{"status": "restarting", "pid": 10425, "deliberate": true}',NULL,NULL,1.79525784923288464541e+09);
INSERT INTO "messages" VALUES(93,'default',NULL,'tithon.kernel','{"status": "restarted", "pid": 10445, "deliberate": true}',NULL,NULL,1.79525785064328861234e+09);
INSERT INTO "messages" VALUES(94,'default','e14','tithon.queued','{"code": "print(''after restart'')\nx = 41", "origin": null}',NULL,NULL,1.795257850644888401e+09);
INSERT INTO "messages" VALUES(95,'default','e14','tithon.started','{"ts": 1795257850.6462393, "kernel_msg_id": "7b84a7a1-56365c45665a21d763520ca6_10413_1"}',NULL,NULL,1.79525785064631533617e+09);
INSERT INTO "messages" VALUES(96,'default','e14','status','{"execution_state": "busy"}',NULL,NULL,1.79525785066534042354e+09);
INSERT INTO "messages" VALUES(97,'default','e14','stream','{"name": "stdout", "text": "after restart\n"}',NULL,NULL,1.7952578506666743755e+09);
INSERT INTO "messages" VALUES(98,'default','e14','status','{"execution_state": "idle"}',NULL,NULL,1.795257850668213129e+09);
INSERT INTO "messages" VALUES(99,'default','e14','tithon.done','{"status": "ok", "execution_count": 1, "ts": 1795257850.6685407}',NULL,NULL,1.79525785066860175129e+09);
INSERT INTO "messages" VALUES(100,'default','e15','tithon.queued','{"code": "import time\nprint(''sleeping'', flush=True)\ntime.sleep(60)", "origin": null}',NULL,NULL,1.79525785066938281054e+09);
INSERT INTO "messages" VALUES(101,'default','e15','tithon.started','{"ts": 1795257850.6714854, "kernel_msg_id": "7b84a7a1-56365c45665a21d763520ca6_10413_2"}',NULL,NULL,1.79525785067156982421e+09);
INSERT INTO "messages" VALUES(102,'default','e15','status','{"execution_state": "busy"}',NULL,NULL,1.795257850672090292e+09);
INSERT INTO "messages" VALUES(103,'default','e15','stream','{"name": "stdout", "text": "sleeping\n"}',NULL,NULL,1.79525785069009399417e+09);
INSERT INTO "messages" VALUES(104,'default',NULL,'tithon.kernel','{"status": "interrupted"}',NULL,NULL,1.79525785069136023519e+09);
INSERT INTO "messages" VALUES(105,'default','e15','error','{"traceback": ["\u001b[31m---------------------------------------------------------------------------\u001b[39m", "\u001b[31mKeyboardInterrupt\u001b[39m                         Traceback (most recent call last)", "\u001b[36mCell\u001b[39m\u001b[36m \u001b[39m\u001b[32mIn[2]\u001b[39m\u001b[32m, line 3\u001b[39m\n\u001b[32m      1\u001b[39m \u001b[38;5;28;01mimport\u001b[39;00m time\n\u001b[32m      2\u001b[39m print(\u001b[33m''sleeping''\u001b[39m, flush=\u001b[38;5;28;01mTrue\u001b[39;00m)\n\u001b[32m----> \u001b[39m\u001b[32m3\u001b[39m time.sleep(\u001b[32m60\u001b[39m)\n", "\u001b[31mKeyboardInterrupt\u001b[39m: "], "ename": "KeyboardInterrupt", "evalue": ""}',NULL,NULL,1.79525785074067211147e+09);
INSERT INTO "messages" VALUES(106,'default','e15','status','{"execution_state": "idle"}',NULL,NULL,1.79525785074489569663e+09);
INSERT INTO "messages" VALUES(107,'default','e15','tithon.done','{"status": "error", "execution_count": 2, "ts": 1795257850.745292}',NULL,NULL,1.79525785074537396436e+09);
INSERT INTO "messages" VALUES(108,'default','e16','tithon.queued','{"code": "print(input(''name? ''))", "origin": null}',NULL,NULL,1.79525785075216221808e+09);
INSERT INTO "messages" VALUES(109,'default','e16','tithon.started','{"ts": 1795257850.7528832, "kernel_msg_id": "7b84a7a1-56365c45665a21d763520ca6_10413_3"}',NULL,NULL,1.79525785075295877461e+09);
INSERT INTO "messages" VALUES(110,'default','e16','status','{"execution_state": "busy"}',NULL,NULL,1.79525785075623774524e+09);
INSERT INTO "messages" VALUES(111,'default','e16','tithon.input_request','{"exec_id": "e16", "prompt": "name? ", "password": false}',NULL,NULL,1.79525785075806879999e+09);
INSERT INTO "messages" VALUES(112,'default','e16','tithon.input_resolved','{"exec_id": "e16"}',NULL,NULL,1.79525785076005220406e+09);
INSERT INTO "messages" VALUES(113,'default','e16','stream','{"name": "stdout", "text": "Ada\n"}',NULL,NULL,1795257850.76237);
INSERT INTO "messages" VALUES(114,'default','e16','status','{"execution_state": "idle"}',NULL,NULL,1.79525785076388311387e+09);
INSERT INTO "messages" VALUES(115,'default','e16','tithon.done','{"status": "ok", "execution_count": 3, "ts": 1795257850.7641876}',NULL,NULL,1.79525785076425218583e+09);
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE INDEX idx_messages_exec ON messages(exec_id);
CREATE INDEX idx_messages_type_seq ON messages(msg_type, msg_seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',115);
COMMIT;
