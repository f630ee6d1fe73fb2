//! A model that repeats the records that it is given, so that they can be compared with the naive answer.

use std::sync::Arc;

use kith_model::id::InstallationId;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, RecordField, Table};

use super::naive::repeated;
use crate::tests::harness::installed;
use crate::{Installed, Role};

const REPEATING: InstallationId = InstallationId(4);

struct Repeater;

impl ComputeModel for Repeater {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let orders = rows.column("orders").unwrap();
        let mut said = ColumnBuilder::new("repeated", &ColumnType::Text);
        for row in 0..rows.rows {
            let Cell::Records(records) = orders.cell(row) else { panic!("{orders:?}") };
            let order = |record: &Vec<Cell>| match record.as_slice() {
                [Cell::Timestamp(time), Cell::Int64(amount)] => (*time, usize::try_from(*amount).ok()),
                [Cell::Timestamp(time), Cell::Null] => (*time, None),
                other => panic!("{other:?}"),
            };
            said.push(Cell::Text(repeated(records.iter().map(order)))).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![said.finish()] })
    }
}

/// The model, which always runs. No audience goes by what it says.
pub(super) fn repeating() -> Installed {
    let mut model = installed(REPEATING.0, "repeating", PluginKind::TagModel, Role::TagModel(Arc::new(Repeater)));
    let field = |name: &str, column_type| RecordField { name: name.into(), column_type };
    model.inputs = vec![InputSpec {
        name: "orders".into(),
        expression: "events('Order Completed').map(e, {'time': e.time, 'amount': e.amount})".into(),
        column_type: ColumnType::Records(vec![
            field("time", ColumnType::Timestamp),
            field("amount", ColumnType::Int64),
        ]),
        reason: "to repeat".into(),
    }];
    model.outputs = vec![OutputSpec {
        name: "repeated".into(),
        column_type: ColumnType::Text,
        values: Vec::new(),
        description: String::new(),
        category: String::new(),
    }];
    model
}
