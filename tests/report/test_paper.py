from stl_ray.report.paper import COLUMNS, TABLES


def test_certificate_tables_have_every_column_and_the_known_landmarks():
    for table in TABLES.values():
        assert all(len(values) == len(COLUMNS) for _, values in table.rows)
        assert all(0 < value < 1 for _, values in table.rows for value in values)
    retrained, vanilla = dict(TABLES["retrained"].rows), dict(TABLES["vanilla"].rows)
    assert retrained["No defence"] == vanilla["No defence"]
    # In both of the paper's tables STL is above no defence in every attacked column, and below it when clean.
    for rows in (retrained, vanilla):
        for name in ("STL", "STL (cluster)"):
            above = [ours > theirs for ours, theirs in zip(rows[name], rows["No defence"], strict=True)]
            assert above == [False, True, True, True, True, True]
