// node-postgres and postgres.js by habit, for test_driver_habits.py: prints what they are told, as JSON.
'use strict';
const { Client } = require('pg');
const postgres = require('postgres');

const byId = 'SELECT * FROM habit WHERE id = $1';

async function tell(out, doing) {
  try {
    const result = await doing();
    out.push(Array.isArray(result) && result[0]?.rows ? result.map((r) => r.rows)
      : result.rows ?? [...result]);
  } catch (error) {
    out.push([error.code ?? null, error.message]);
  }
}

async function nodePostgres(url, out) {
  const client = new Client({ connectionString: url, query_timeout: 400 });
  const other = new Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  await other.connect();
  for (let turn = 0; turn < 6; turn++) {
    await tell(out, () => client.query(byId, [1]));
    await tell(out, () => client.query({ name: 'n', text: byId, values: [2] }));
    await tell(out, () => client.query('SELECT name FROM habit WHERE id = 1; SELECT 2 AS two'));
    await tell(out, () => client.query({ text: byId, values: [3], rowMode: 'array' }));
  }
  // All at once: they wait for each other in the driver.
  await Promise.all([1, 2, 'x', 3].map((id) => tell(out, () => client.query(byId, [id]))));
  await other.query('ALTER TABLE habit ADD COLUMN extra int DEFAULT 7');
  for (let turn = 0; turn < 2; turn++) {
    await tell(out, () => client.query({ name: 'n', text: byId, values: [2] }));
    await tell(out, () => client.query(byId, [2]));
  }
  await tell(out, () => client.query({ name: 'n', text: 'SELECT 1', values: [] }));
  await tell(out, () => client.query('BEGIN'));
  await tell(out, () => client.query(byId, [1]));
  await tell(out, () => client.query('SELECT 1 / 0'));
  await tell(out, () => client.query(byId, [1]));
  await tell(out, () => client.query('ROLLBACK'));
  await tell(out, () => client.query(byId, [1]));
  // The driver gives up, and PostgreSQL goes on: what is asked next waits for that.
  await tell(out, () => client.query('SELECT count(*) FROM habit, pg_sleep(0.6)'));
  await new Promise((resolve) => setTimeout(resolve, 500));
  await tell(out, () => client.query(byId, [1]));
  await client.end();
  await other.end();
}

async function postgresJs(url, out) {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  for (let turn = 0; turn < 5; turn++) {
    await tell(out, () => sql`SELECT * FROM habit WHERE id = ${1}`);
    await tell(out, () => sql`SELECT name FROM habit WHERE id IN ${sql([2, 3])} ORDER BY id`);
    await tell(out, () => sql.unsafe('SELECT name FROM habit WHERE id = 1'));
    await tell(out, () => sql`SELECT * FROM habit WHERE id = ${'x'}`);
  }
  await tell(out, () => Promise.all([1, 2, 3].map((id) => sql`SELECT name FROM habit WHERE id = ${id}`)));
  await tell(out, () => sql.begin(async (inner) => {
    await inner`UPDATE habit SET name = 'inner' WHERE id = 1`;
    await tell(out, () => inner`SELECT name FROM habit WHERE id = ${1}`);
    await inner.savepoint((point) => point`INSERT INTO habit VALUES (1)`).catch((e) => out.push(e.code));
    await tell(out, () => inner`SELECT name FROM habit WHERE id = ${1}`);
    throw new Error('enough');
  }));
  const read = [];
  await sql`SELECT id FROM habit ORDER BY id`.cursor(7, (rows) => { read.push(rows.length); });
  out.push(read);
  const running = sql`SELECT count(*) FROM habit, pg_sleep(20)`;
  running.execute();
  setTimeout(() => running.cancel(), 200);
  await tell(out, () => running);
  await tell(out, () => sql`SELECT * FROM habit WHERE id = ${2}`);
  await sql.unsafe('ALTER TABLE habit DROP COLUMN kind');
  for (let turn = 0; turn < 3; turn++) await tell(out, () => sql`SELECT * FROM habit WHERE id = ${1}`);
  await sql.end();
}

async function main(url) {
  const out = [];
  await nodePostgres(url, out);
  await postgresJs(url, out);
  console.log(JSON.stringify(out));
}

setTimeout(() => { console.error('too slow'); process.exit(3); }, 40000).unref();
main(process.argv[2]).catch((error) => { console.error(error); process.exit(1); });
