"""What is known to differ from PostgreSQL, or from the promises, and is not mended yet."""
import pytest


@pytest.mark.xfail(strict=True, reason="without event triggers, DDL that a function carries out waits "
                                       "for the catalog's poll, though it came through pgfresh")
@pytest.mark.parametrize("how", ["DO $$ BEGIN PERFORM redefine(); END $$", "SELECT redefine()"])
def test_ddl_in_a_function_without_event_triggers(own_play, how):
    play = own_play({"freshness.catalog_poll": "5s"})
    play.sql("DROP EVENT TRIGGER pgfresh_ddl_start; DROP EVENT TRIGGER pgfresh_ddl_end;"
             "DROP EVENT TRIGGER pgfresh_drop;"
             "CREATE FUNCTION redefine() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE OR REPLACE "
             "VIEW item_name AS SELECT id, 'new'::text AS name FROM item; END $$")
    app, sql = play.app(), "SELECT name FROM item_name WHERE id = 1"
    play.hot(app, sql, seconds=15)
    app.execute(how)
    assert app.execute(sql).fetchone() == ("new",)
