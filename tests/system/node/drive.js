// node-postgres through pgfresh: what test_drivers.py asks it to do. Prints one line of JSON.
'use strict';
const { Client, Pool } = require('pg');

async function main(url) {
  const pool = new Pool({ connectionString: url, max: 4 });
  const report = {};
  const byId = 'SELECT id, name FROM item WHERE id = $1';
  const ask = async () => {
    const simple = await pool.query('SELECT name FROM item WHERE id = 1');
    const extended = await pool.query(byId, [2]);
    const named = await pool.query({ name: 'by-id', text: byId, values: [3] });
    return [simple.rows[0].name, extended.rows[0].name, named.rows[0].name].join(', ');
  };
  const answers = new Set();
  for (let turn = 0; turn < 60; turn++) answers.add(await ask());
  report.answers = [...answers];

  const client = await pool.connect();
  await client.query('BEGIN');
  await client.query("UPDATE item SET name = 'by node' WHERE id = 70");
  report.own = (await client.query(byId, [70])).rows[0].name;
  await client.query('ROLLBACK');
  report.rolledBack = (await client.query(byId, [70])).rows[0].name;
  for (let turn = 0; turn < 30; turn++) {
    await client.query('UPDATE item SET name = $1 WHERE id = 71', [`turn ${turn}`]);
    const seen = (await pool.query(byId, [71])).rows[0].name;
    if (seen !== `turn ${turn}`) report.stale = seen;
  }
  client.release();

  try {
    await pool.query('SELECT 1 / 0');
  } catch (error) {
    report.code = error.code;
  }
  report.parallel = (await Promise.all(
    Array.from({ length: 40 }, (_, n) => pool.query(byId, [n + 1])))).map((r) => r.rows[0].id).join();
  const listener = new Client({ connectionString: url });
  await listener.connect();
  const heard = new Promise((resolve) => listener.on('notification', (m) => resolve(m.payload)));
  await listener.query('LISTEN node_news');
  await pool.query("SELECT pg_notify('node_news', 'heard')");
  report.heard = await heard;
  await listener.end();
  await pool.end();
  console.log(JSON.stringify(report));
}

setTimeout(() => { console.error('too slow'); process.exit(3); }, 40000).unref();
main(process.argv[2]).catch((error) => { console.error(error); process.exit(1); });
