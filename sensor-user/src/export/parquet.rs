//! Tables as Parquet files: what data frames read.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::atomic::{self, NewFile};

/// Rows of a row group: what is held in memory.
pub const GROUP_ROWS: usize = 65_536;

/// A value of a row. A column has the same kind in every row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// INT64.
    Count(i64),
    /// FLOAT: single precision, as it was measured.
    Real(f32),
    /// DOUBLE.
    Time(f64),
    /// UTF-8.
    Text(Cow<'static, str>),
    /// INT64, and always null.
    Unknown,
}

/// A row, each cell with the name of its column.
pub type NamedCells<const N: usize> = [(&'static str, Cell); N];

/// A file that is being written. What is not [finished](Self::finish) leaves no file.
pub struct ParquetFile {
    new: NewFile,
    writer: SerializedFileWriter<File>,
    columns: Vec<Column>,
    waiting: usize,
    rows: u64,
}

impl ParquetFile {
    /// Begins a file at `path` with the columns of this row, which is not written.
    ///
    /// # Errors
    /// There is no such folder, or nothing can be written there.
    pub fn create<const N: usize>(path: &Path, example: &NamedCells<N>) -> Result<Self> {
        atomic::check_place(path)?;
        let new = NewFile::create(path)?;
        let file = new.file.try_clone().context("open the file twice")?;
        let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        let writer = SerializedFileWriter::new(file, schema(example)?, Arc::new(properties))?;
        let columns = example.iter().map(|(_, cell)| Column::like(cell)).collect();
        Ok(Self { new, writer, columns, waiting: 0, rows: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row<const N: usize>(&mut self, cells: NamedCells<N>) -> Result<()> {
        for (column, (_, cell)) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.waiting += 1;
        self.rows += 1;
        if self.waiting == GROUP_ROWS { self.group() } else { Ok(()) }
    }

    /// Writes what waits, and puts the file in its place. Gives the number of rows.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<u64> {
        if self.waiting > 0 {
            self.group()?;
        }
        self.writer.close().context("end the table")?;
        self.new.commit()?;
        Ok(self.rows)
    }

    fn group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut writer = group.next_column()?.context("the schema has fewer columns than a row")?;
            column.write(&mut writer, self.waiting)?;
            writer.close()?;
        }
        group.close().context("write rows")?;
        self.waiting = 0;
        Ok(())
    }
}

/// The values of a column that wait.
enum Column {
    Count(Vec<i64>),
    Real(Vec<f32>),
    Time(Vec<f64>),
    Text(Vec<ByteArray>),
    Unknown,
}

impl Column {
    const fn like(cell: &Cell) -> Self {
        match cell {
            Cell::Count(_) => Self::Count(Vec::new()),
            Cell::Real(_) => Self::Real(Vec::new()),
            Cell::Time(_) => Self::Time(Vec::new()),
            Cell::Text(_) => Self::Text(Vec::new()),
            Cell::Unknown => Self::Unknown,
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Self::Count(values), Cell::Count(value)) => values.push(value),
            (Self::Real(values), Cell::Real(value)) => values.push(value),
            (Self::Time(values), Cell::Time(value)) => values.push(value),
            (Self::Text(values), Cell::Text(value)) => values.push(ByteArray::from(value.as_ref())),
            (Self::Unknown, Cell::Unknown) => {}
            (_, cell) => unreachable!("{cell:?} is of another kind than its column"),
        }
    }

    /// Writes and forgets the values of so many rows.
    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>, rows: usize) -> Result<(), ParquetError> {
        match self {
            Self::Count(values) => write_all::<Int64Type>(writer, values),
            Self::Real(values) => write_all::<FloatType>(writer, values),
            Self::Time(values) => write_all::<DoubleType>(writer, values),
            Self::Text(values) => write_all::<ByteArrayType>(writer, values),
            Self::Unknown => writer.typed::<Int64Type>().write_batch(&[], Some(&vec![0; rows]), None).map(drop),
        }
    }
}

fn write_all<T: DataType>(writer: &mut SerializedColumnWriter<'_>, values: &mut Vec<T::T>) -> Result<(), ParquetError> {
    writer.typed::<T>().write_batch(values, None, None)?;
    values.clear();
    Ok(())
}

fn schema<const N: usize>(example: &NamedCells<N>) -> Result<TypePtr> {
    let field = |(name, cell): &(&'static str, Cell)| {
        let (physical, logical, repetition) = match cell {
            Cell::Count(_) => (Physical::INT64, None, Repetition::REQUIRED),
            Cell::Real(_) => (Physical::FLOAT, None, Repetition::REQUIRED),
            Cell::Time(_) => (Physical::DOUBLE, None, Repetition::REQUIRED),
            Cell::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
            Cell::Unknown => (Physical::INT64, None, Repetition::OPTIONAL),
        };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    let fields = example.iter().map(field).collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("flows").with_fields(fields).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::metadata::RowGroupMetaData;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    fn row(n: i64) -> NamedCells<5> {
        [
            ("n", Cell::Count(n)),
            ("half", Cell::Real(0.5)),
            ("time", Cell::Time(1_750_000_000.123_456)),
            ("text", Cell::Text(Cow::Owned(format!("ñ{n}")))),
            ("nobody_knows", Cell::Unknown),
        ]
    }

    #[test]
    fn what_was_written_is_read_back_in_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.parquet");
        let mut file = ParquetFile::create(&path, &row(0)).unwrap();
        let rows = 65_537;
        (0..rows).for_each(|n| file.row(row(n)).unwrap());
        assert_eq!(file.finish().unwrap(), 65_537);
        let reader = SerializedFileReader::try_from(path.as_path()).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
        assert_eq!(groups, [65_536, 1]);
        for (n, read) in reader.get_row_iter(None).unwrap().enumerate() {
            let fields: Vec<_> = read.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect();
            let n = i64::try_from(n).unwrap();
            let expected = [
                Field::Long(n),
                Field::Float(0.5),
                Field::Double(1_750_000_000.123_456),
                Field::Str(format!("ñ{n}")),
                Field::Null,
            ];
            assert_eq!(fields, expected);
        }
    }

    #[test]
    fn a_file_that_is_not_finished_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ParquetFile::create(&dir.path().join("table.parquet"), &row(0)).unwrap();
        file.row(row(1)).unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
