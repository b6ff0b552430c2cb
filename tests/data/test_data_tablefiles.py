import gzip
import random

import polars as pl
import pytest

import fluxion as fx


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
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], fx.FileFormatError, "packed with gzip, it is damaged"),
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
