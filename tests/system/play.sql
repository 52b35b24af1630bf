-- The tables system tests play with. Watched unless said otherwise.
SET client_min_messages = warning;

CREATE TABLE item (
  id int PRIMARY KEY,
  name text NOT NULL,
  price numeric,
  made timestamptz NOT NULL DEFAULT '2026-01-01 12:00+00'
);
CREATE TABLE part (
  id int PRIMARY KEY,
  item_id int REFERENCES item ON UPDATE CASCADE ON DELETE CASCADE,
  name text NOT NULL
);
-- Written by triggers of item alone: at once on update, at commit on delete.
CREATE TABLE journal (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  item_id int NOT NULL,
  what text NOT NULL
);
CREATE TABLE happening (
  id int NOT NULL,
  day date NOT NULL,
  what text NOT NULL,
  PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE happening_1 PARTITION OF happening FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE happening_2 PARTITION OF happening FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE guarded (id int PRIMARY KEY, owner text NOT NULL, secret text NOT NULL);
CREATE TABLE plain (id int PRIMARY KEY, name text NOT NULL);  -- not watched
CREATE TABLE many (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE kinds (
  id int PRIMARY KEY, t text, v varchar(9), c char(5), i2 int2, i8 int8, f4 float4, f8 float8,
  n numeric(20, 6), b bool, y bytea, d date, tm time, ts timestamp, tz timestamptz, iv interval,
  u uuid, j json, jb jsonb, ia int[], ta text[], inet inet
);

CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO journal (item_id, what) VALUES (new.id, 'renamed to ' || new.name);
  RETURN NULL;
END $$;
CREATE TRIGGER note_update AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION note_update();
CREATE FUNCTION note_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO journal (item_id, what) VALUES (old.id, 'deleted');
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_delete AFTER DELETE ON item DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION note_delete();

CREATE FUNCTION rename_item(item_id int, new_name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  UPDATE item SET name = new_name WHERE id = item_id;
  RETURN new_name;
END $$;
CREATE PROCEDURE rename_and_commit(item_id int, first_name text, second_name text)
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE item SET name = first_name WHERE id = item_id;
  COMMIT;
  UPDATE item SET name = second_name WHERE id = item_id;
END $$;
CREATE FUNCTION greeting() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'hello'::text $$;

CREATE VIEW item_name AS SELECT id, name FROM item;
CREATE SCHEMA other;
CREATE TABLE other.item (id int PRIMARY KEY, name text NOT NULL, price numeric, made timestamptz);

INSERT INTO item (id, name, price) SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 100) n;
INSERT INTO other.item (id, name) SELECT n, 'other ' || n FROM generate_series(1, 100) n;
INSERT INTO part SELECT n, (n + 1) / 2, 'part ' || n FROM generate_series(1, 200) n;
INSERT INTO happening SELECT n, date '2026-01-01' + n, 'day ' || n FROM generate_series(1, 50) n;
INSERT INTO guarded VALUES (1, 'anna', 'of anna'), (2, 'bert', 'of bert');
INSERT INTO plain SELECT n, 'plain ' || n FROM generate_series(1, 100) n;
INSERT INTO many SELECT n, repeat('x', 100) || n FROM generate_series(1, 20000) n;
INSERT INTO kinds VALUES
  (1, 'text é', 'varchar', 'char', -2, 9000000000, 1.5, 0.1, 12.345678, true, '\x00ff10',
   '2026-03-04', '05:06:07.8', '2026-03-04 05:06:07', '2026-03-04 05:06:07+02', '1 year 2 days 03:04',
   '0123456789abcdef0123456789abcdef', '{"a": [1, 2]}', '{"b": null}', '{1,NULL,3}', '{"x","y z"}',
   '10.0.0.1/8');
INSERT INTO kinds (id) VALUES (2);

ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON guarded USING (owner = current_user);
GRANT USAGE ON SCHEMA public, other TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO anna, bert;

SELECT pgfresh.watch(t) FROM unnest(ARRAY['item', 'part', 'journal', 'happening', 'guarded', 'many',
                                          'kinds', 'other.item']::regclass[]) AS t;
ANALYZE;
