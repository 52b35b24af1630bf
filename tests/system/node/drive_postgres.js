// postgres.js through pgfresh: what test_drivers.py asks it to do. Prints one line of JSON.
// It parses, describes, binds and executes a query without parameters in one segment, under a name
// that is new to each connection.
'use strict';
const postgres = require('postgres');

async function main(url) {
  const connections = [];
  const connect = () => {
    const sql = postgres(url, { max: 1, fetch_types: false });
    connections.push(sql);
    return sql;
  };
  const ask = async (sql) => {
    const [plain] = await sql`SELECT id, name FROM item WHERE id = 72`;
    const [bound] = await sql`SELECT id, name FROM item WHERE id = ${73}`;
    return [plain.id, plain.name, bound.id, bound.name].join(', ');
  };
  const report = { answers: [] };
  for (let turn = 0; turn < 4; turn++) report.answers.push(await ask(connect()));
  report.again = await ask(connections[0]);
  const writer = connect();
  await writer`UPDATE item SET name = ${'by postgres.js'} WHERE id IN (72, 73)`;
  report.written = [await ask(writer), await ask(connections[0]), await ask(connect())];
  await writer.begin(async (sql) => {
    await sql`UPDATE item SET name = 'not for long' WHERE id = 72`;
    report.own = await ask(sql);
    throw new Error('rolled back');
  }).catch((error) => { report.end = error.message; });
  report.rolledBack = await ask(writer);
  await Promise.all(connections.map((sql) => sql.end()));
  console.log(JSON.stringify(report));
}

setTimeout(() => { console.error('too slow'); process.exit(3); }, 40000).unref();
main(process.argv[2]).catch((error) => { console.error(error); process.exit(1); });
