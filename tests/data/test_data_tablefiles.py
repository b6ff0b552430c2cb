import csv
import datetime
import gzip
import random

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data import tabletypes, untrusted


@pytest.fixture
def write(tmp_path):
    def to_file(content, name="table.csv"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return to_file


def test_columns_have_types(write):
    frame = fx.read_table(
        write("n,x,b,s,d,t\n1,1.5,true,u,2020-01-02,2020-01-02 10:00:00\n2,2,false,v,2020-01-03,2020-01-02 11:00:00\n")
    )
    assert [dtype.base_type() for dtype in frame.dtypes] == [
        pl.Int64,
        pl.Float64,
        pl.Boolean,
        pl.String,
        pl.Date,
        pl.Datetime,
    ]


def test_missing_markers_are_missing_in_every_type(write):
    frame = fx.read_table(write("n,x,b,s,i\n1,1.5,true,u,0\n?,NaN,NA,,1\nNA,,null,NA,2\n 3, ? , false ,  v ,3\n"))
    assert frame["n"].to_list() == [1, None, None, 3] and frame["n"].dtype == pl.Int64
    assert frame["x"].to_list() == [1.5, None, None, None] and frame["x"].dtype == pl.Float64
    assert frame["b"].to_list() == [True, None, None, False]
    assert frame["s"].to_list() == ["u", None, None, "v"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(write, separator):
    text = '"a, b; c",d\n1,x\n2,"y"\n'.replace(",", separator).replace(f"a{separator} b", "a, b")
    frame = fx.read_table(write(text, "table.tsv" if separator == "\t" else "table.txt"))
    if separator == ";":
        assert frame.width == 2
    assert frame.rows() == [(1, "x"), (2, "y")]


def test_text_files_of_many_kinds(write):
    expected = [(1, 2), (3, 4)]
    assert fx.read_table(write(b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n")).rows() == expected
    assert fx.read_table(write("\n\na , b\n1,2\n\n3,4")).columns == ["a", "b"]
    assert fx.read_table(write("a,b\n1,2\n\n3,4\n")).rows() == expected
    assert fx.read_table(write('a,b\n"x\ny",2\n')).rows() == [("x\ny", 2)]
    assert fx.read_table(write("month,y\n1949-01,1\n1949-02,2\n"))["month"].dtype == pl.Date
    assert fx.read_table(write("a\n1\n\n3\n"))["a"].to_list() == [1, None, 3]
    assert fx.read_table(write("PK,a\n1,2\n")).columns == ["PK", "a"]


def test_parquet_and_columns(tmp_path):
    file = tmp_path / "table"  # told by its first bytes, not by its name
    pl.DataFrame({"a": [1.0, float("nan")], "b": ["x", None], "c": [1, 2]}).write_parquet(file)
    frame = fx.read_table(file, columns=["b", "a"])
    assert frame.columns == ["b", "a"] and frame["a"].to_list() == [1.0, None]
    with pytest.raises(fx.DataError, match=r"expected a column 'bb', the columns are a, b, c\. Did you mean 'b'\?"):
        fx.read_table(file, columns=["bb"])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("a,b,c\n1,2,3\n4,5\n", fx.FileFormatError, "3 cells in every line, as in the header, got 2 in line 3"),
        ("a,b\n1,2\n3,4,5\n", fx.FileFormatError, "2 cells in every line, as in the header, got 3 in line 3"),
        ("a,b,a\n1,2,3\n", fx.FileFormatError, "got 'a' for columns 1 and 3"),
        (",a,\n1,2,3\n", fx.FileFormatError, "got none for column 3"),
        ("1,2\n3,4\n", fx.FileFormatError, r"column names in the first line, got numbers \(1,2\)"),
        ("a,b\né,2\n".encode("latin1"), fx.FileFormatError, "expected UTF-8 text"),
        ("é,b\n1,2\n".encode("latin1"), fx.FileFormatError, "expected UTF-8 text, got other bytes in the header"),
        ("a,b\n1,2\n".encode("utf-16"), fx.FileFormatError, "expected UTF-8 text"),
        (bytes(range(64)), fx.FileFormatError, "binary data"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], fx.FileFormatError, "at byte 0: not a whole gzip file"),
        (b"PK\x03\x04" + bytes(50), fx.FileFormatError, "packed with zip. Unpack it first"),
        ("", fx.DataError, "the file is empty"),
        ("\n \n", fx.DataError, "holds only empty lines"),
        ("a,b\n", fx.DataError, "the table has columns a, b and no rows"),
        ("a,b\n,\n?,NA\n", fx.DataError, "no rows"),
        ('a,b\n"x,1\n2,3\n', fx.FileFormatError, "table.csv: expected"),
        (b"PAR1 and then nothing", fx.FileFormatError, "expected a Parquet file, it is damaged"),
    ],
)
def test_damaged_files(write, content, error, message):
    file = write(content)
    with pytest.raises(error, match=message) as caught:
        fx.read_table(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_parquet(tmp_path):
    file = tmp_path / "a.parquet"
    pl.DataFrame({"a": list(range(2000)), "b": [f"x{i}" for i in range(2000)]}).write_parquet(file)
    good = file.read_bytes()
    damaged = [good[: len(good) // 2], good[:-4], b"PAR1" + bytes(100) + b"PAR1", b"a,b\n1,2\n"]
    for seed in range(10):
        rng, content = random.Random(seed), bytearray(good)
        for _ in range(8):
            content[rng.randrange(len(good) - 500, len(good) - 8)] = rng.randrange(256)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        file.write_bytes(content)
        try:
            fx.read_table(file)  # a flipped bit in a statistic does no harm
        except fx.FileFormatError as error:
            refused += 1
            assert str(file) in str(error) and "\n" not in str(error)
    assert refused >= 10


def test_absent_files(tmp_path, write):
    write("a,b\n1,2\n", "flowers.csv")
    with pytest.raises(fx.DataError, match=r"there is none of that name\. Did you mean 'flowers.csv'\?"):
        fx.read_table(tmp_path / "flower.csv")
    with pytest.raises(fx.DataError, match="there is no folder"):
        fx.read_table(str(tmp_path / "no" / "a.csv"))
    with pytest.raises(fx.DataError, match="got a folder"):
        fx.read_table(tmp_path)


def day(text):
    return datetime.date.fromisoformat(text)


def moment(text):
    return datetime.datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2020-01-31", ""], [day("2020-01-31"), None]),
        (["2020/1/5", "2020/12/31"], [day("2020-01-05"), day("2020-12-31")]),
        (["31.12.2020", "1.2.2020"], [day("2020-12-31"), day("2020-02-01")]),
        (["1.2.2020", "2.3.2020"], [day("2020-02-01"), day("2020-03-02")]),  # with points the day comes first
        (["1/2/2020", "13/2/2020"], [day("2020-02-01"), day("2020-02-13")]),
        (["1-2-2020", "2-13-2020"], [day("2020-01-02"), day("2020-02-13")]),
        (["1/1/2020", "2/2/2020"], [day("2020-01-01"), day("2020-02-02")]),  # the same in either order
        (["1/2/2020", "2/3/2020"], ["1/2/2020", "2/3/2020"]),
        (["13/2/2020", "2/13/2020"], ["13/2/2020", "2/13/2020"]),
        (["1 Feb 2020", "31-Dec-2020"], [day("2020-02-01"), day("2020-12-31")]),
        (["2020-02-30", "2020-01-01"], ["2020-02-30", "2020-01-01"]),
        (["3/4/20", "5/6/20"], ["3/4/20", "5/6/20"]),
        (["2020-01-02 10:00", "2020-01-02"], [moment("2020-01-02T10:00"), moment("2020-01-02T00:00")]),
        (["2020-01-02T10:00:00.25", ""], [moment("2020-01-02T10:00:00.250"), None]),
        (["2020-01-02T10:00Z", "2020-01-02T10:00:00+02:00"], [moment("2020-01-02T10Z"), moment("2020-01-02T08Z")]),
        (["2020-01-02 10:00", "2020-01-02 25:00"], ["2020-01-02 10:00", "2020-01-02 25:00"]),
        (["31.12.2020 23:59", "1.1.2020 0:00"], [moment("2020-12-31T23:59"), moment("2020-01-01T00:00")]),
        (["10:00", "23:59:59.5"], [datetime.time(10), datetime.time(23, 59, 59, 500_000)]),
        (["24:00", "10:00"], ["24:00", "10:00"]),
        (["TRUE", "false"], [True, False]),
        (["yes", "no"], ["yes", "no"]),  # classes keep their names
        (["1", "2.5e3"], [1, 2500]),
        (["1", "x"], ["1", "x"]),
    ],
)  # fmt: skip
def test_cells_are_told_apart(write, cells, expected):
    frame = fx.read_table(write("a,b\n" + "".join(f"{cell},1\n" for cell in cells)))
    assert frame["a"].to_list() == expected


def test_a_type_may_come_late(write):
    rows = ["1,1/2/2020,true,"] * 1500 + ["2.5,13/2/2020,x,7"]
    frame = fx.read_table(write("a,b,c,d\n" + "\n".join(rows)))
    assert frame["a"].to_list()[-2:] == [1.0, 2.5] and frame["c"].to_list()[-2:] == ["true", "x"]
    assert frame["b"].to_list()[-2:] == [day("2020-02-01"), day("2020-02-13")]
    assert frame["d"].dtype == pl.Int64 and frame["d"].null_count() == 1500
    late = fx.read_table(write("a,b\n" + "1,2\n" * 1500 + "?,5\n"))
    assert late["a"].dtype == pl.Int64 and late["a"][-1] is None


def test_types_asked_for(write):
    file = write("zip,d,b,n,t,w\n01234,1/2/2020,yes,1,9:30,1\n00001,2/3/2020,N,?,10:00,2\n")
    types = {"zip": "text", "d": "dmy", "b": "boolean", "n": "number", "t": "time", "w": pl.Float32}
    frame = fx.read_table(file, types=types)
    assert frame.rows() == [
        ("01234", day("2020-02-01"), True, 1.0, datetime.time(9, 30), 1.0),
        ("00001", day("2020-03-02"), False, None, datetime.time(10), 2.0),
    ]
    assert frame["w"].dtype == pl.Float32
    assert fx.read_table(file, types={"d": "mdy"})["d"][0] == day("2020-01-02")
    frame.write_parquet(file.with_suffix(".parquet"))
    again = fx.read_table(file.with_suffix(".parquet"), types={"n": "text", "b": "number", "zip": "whole"})
    assert again["n"].to_list() == ["1.0", None] and again["b"].to_list() == [1, 0] and again["zip"][0] == 1234


@pytest.mark.parametrize(
    ("types", "error", "message"),
    [
        ({"b": "number"}, fx.DataError, "b: expected number, as asked for, got 'x' in row 1"),
        ({"a": "date"}, fx.DataError, "a: expected date, as asked for, got '1' in row 0"),
        ({"d": "date"}, fx.DataError, r'told in two ways, such as .1/2/2020.\. Say "dmy"'),
        ({"c": "text"}, fx.DataError, "types names a column 'c' that is not there"),
        ({"a": "txt"}, fx.ArgumentError, "got 'txt'. Did you mean 'text'"),
        (["text"], fx.ArgumentError, "expected types as a dict"),
    ],
)
def test_types_that_cannot_be(write, types, error, message):
    with pytest.raises(error, match=message):
        fx.read_table(write("a,b,d\n1,2,1/2/2020\n3,x,2/3/2020\n"), types=types)


def test_more_markers(write, tmp_path):
    file = write("a,b\n1,-\n-999,x\n3,y\n")
    frame = fx.read_table(file, missing=["-", "-999"])
    assert frame.rows() == [(1, None), (None, "x"), (3, "y")]
    pl.DataFrame({"a": [1, -999], "b": ["-", "x"], "c": [-999.0, 2]}).write_parquet(tmp_path / "a.parquet")
    rows = fx.read_table(tmp_path / "a.parquet", missing=["-", "-999"]).rows()
    assert rows == [(1, None, None), (None, "x", 2.0)]
    with pytest.raises(fx.ArgumentError, match="expected missing as a list of strings"):
        fx.read_table(file, missing="-")


def test_without_a_header(write):
    file = write("1,2.5\n3,4\n")
    assert fx.read_table(file, header=False).columns == ["column_1", "column_2"]
    frame = fx.read_table(file, header=["a", "b"], types={"a": "text"})
    assert frame.rows() == [("1", 2.5), ("3", 4.0)] and frame.columns == ["a", "b"]
    with pytest.raises(fx.ArgumentError, match="expected header as 2 names"):
        fx.read_table(file, header=["a"])
    with pytest.raises(fx.FileFormatError, match="2 cells in every line"):
        fx.read_table(write("1,2\n3,4,5\n"), header=False)


def test_packed_text(write):
    text = "a,b\n1,x\n2,\n"
    plain, packed = fx.read_table(write(text)), fx.read_table(write(gzip.compress(text.encode()), "t.csv.gz"))
    assert packed.equals(plain, null_equal=True)
    with pytest.raises(fx.FileFormatError, match="2 cells in every line"):
        fx.read_table(write(gzip.compress(b"a,b\n1\n"), "t.csv.gz"))


def test_a_bomb_is_refused(write, monkeypatch):
    monkeypatch.setattr(untrusted, "_MODEST", 1000)
    with pytest.raises(fx.FileFormatError, match="Unpack it first if you trust it"):
        fx.read_table(write(gzip.compress(b"a\n" + b"1\n" * 500_000), "t.csv.gz"))


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path, content):
    for name in ("a.csv", "a.tsv"):
        file = tmp_path / name
        file.write_bytes(content)
        try:
            fx.read_table(file)
        except (fx.DataError, fx.FileFormatError) as error:
            assert str(file) in str(error) and "\n" not in str(error)


text_cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cc"]), max_size=6)


@given(st.lists(st.tuples(text_cells, st.integers(-5, 5)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_comes_back(tmp_path, rows):
    file = tmp_path / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "n"), *rows])
    frame = fx.read_table(file, types={"text": "text"})
    expected = [None if text.strip() in tabletypes.MISSING else text.strip() for text, _ in rows]
    assert frame["text"].to_list() == expected and frame["n"].to_list() == [n for _, n in rows]


def test_an_overview(write):
    rows = [f"{i % 3},{i / 4},{'ab'[i % 2]},true,1/2/2020,2020-01-0{i % 9 + 1}" for i in range(10)]
    shown = repr(fx.overview(fx.read_table(write("n,x,s,b,d,day\n" + "\n".join(rows) + "\n1,,,,,\n"))))
    assert shown.splitlines() == [
        "11 rows, 6 columns",
        "column  type          missing  different  values",
        "n       whole number                   3  0 to 2",
        "x       number              1         10  0 to 2.25",
        "s       text                1          2  a (5), b (5)",
        "b       boolean             1          1  true (10)",
        'd       text                1          1  1/2/2020 (10)  dates? say "dmy" or "mdy" by types',
        "day     date                1          9  2020-01-01 to 2020-01-09",
    ]
    with pytest.raises(fx.DTypeError, match=r"expected a polars\.DataFrame"):
        fx.overview([1])
