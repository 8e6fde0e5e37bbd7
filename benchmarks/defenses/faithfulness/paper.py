"""The paper's figures in the vanilla setting, by the number of the table; its Table 4 by row."""

from stl_ray.report.paper import COLUMNS as _COLUMNS
from stl_ray.report.paper import NO_DEFENSE as NO_DEFENSE
from stl_ray.report.paper import TABLES as _TABLES

COLUMNS = tuple(column.label for column in _COLUMNS)

TABLES = {table.number: table for table in _TABLES if table.setting == "vanilla" and table.columns == _COLUMNS}

BPDA = {name: value for table in _TABLES if table.number == "4" for name, (value,) in table.rows}
