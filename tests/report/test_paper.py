from stl_ray.report.paper import TABLES, tables_at


def test_certificate_tables_have_every_column_and_the_known_landmarks():
    assert [table.number for table in TABLES] == ["1", "2a", "2b", "3", "4", "5", "6a", "6b", "7", "8a", "8b"]
    by_number = {table.number: dict(table.rows) for table in TABLES}
    for table in TABLES:
        assert all(len(values) == len(table.columns) for _, values in table.rows)
        assert all(0 <= value < 1 for _, values in table.rows for value in values if value is not None)
    for retrained, vanilla in (("1", "5"), ("2a", "6a"), ("2b", "6b")):
        assert by_number[retrained]["No defence"] == by_number[vanilla]["No defence"]
    # STL is above no defence in every attacked column, and below it when clean.
    for number in ("1", "2a", "2b", "5", "6a", "6b", "7"):
        rows = by_number[number]
        for name in ("STL", "STL (cluster)"):
            above = [ours > theirs for ours, theirs in zip(rows[name], rows["No defence"], strict=True)]
            assert above == [False, True, True, True, True, True]
    # Table 8 has columns of Tables 1 and 2a again.
    for number, other in (("8a", "1"), ("8b", "2a")):
        for name in ("No defence", "STL (cluster)"):
            clean, weak, strong, *_ = by_number[number][name]
            assert (clean, strong, weak) == by_number[other][name][:3]


def test_identity_tables_by_the_size_of_their_images():
    found = {size: [table.number for table in tables_at(size)] for size in (None, 32, 64, 128, 224, 48)}
    assert found[None] == found[32] == ["1", "4", "5", "8a"] and found[64] == ["2a", "6a", "8b"]
    assert found[128] == ["2b", "6b"] and found[224] == ["3", "7"] and found[48] == []
