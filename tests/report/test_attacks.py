from stl_ray.report.attacks import attack_blocks


def test_identity_rows_are_attack_sets(measured):
    (table,) = attack_blocks(measured.attacks)
    assert [row[0].text for row in table.rows] == ["FGSM-0.08", "FGSM-0.04", "BIM-0.03"]
    assert [cell.text for cell in table.rows[0][1:]] == ["150 of 200", "166", "34", "0", "0.0399", "0.0627"]
    assert table.rows[0][5].note == "[0.0391, 0.0400]"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_certificate_images_that_missed_the_budget_are_named(measured):
    statuses = {"ok": 160, "already_wrong": 33, "budget_unreachable": 7}
    missed = measured.attacks["bim-0.03"].model_copy(update={"statuses": statuses})
    changed = measured.model_copy(update={"attacks": {**measured.attacks, "bim-0.03": missed}})
    _, caveat = attack_blocks(changed.attacks)
    assert caveat.kind == "caveat"
    assert caveat.text.startswith("BIM-0.03: 7 of 200 images")
    assert "closer to the clean images than the budget" in caveat.text


def test_certificate_images_without_a_gradient_are_counted_and_named(measured):
    statuses = {"ok": 160, "already_wrong": 33, "no_gradient": 5, "gradient_not_finite": 2}
    missed = measured.attacks["bim-0.03"].model_copy(update={"statuses": statuses})
    table, *caveats = attack_blocks({**measured.attacks, "bim-0.03": missed})
    assert table.columns[5:7] == ("No gradient", "Gradient not finite")
    assert [cell.text for cell in table.rows[2][5:7]] == ["5", "2"]
    assert [caveat.text.split(" images ")[0] for caveat in caveats] == ["BIM-0.03: 5 of 200", "BIM-0.03: 2 of 200"]
