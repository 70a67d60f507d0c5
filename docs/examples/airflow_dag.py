"""Export the orders of each day."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow_operator import ExportOrdersOperator

with DAG(
    "orders",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=50,
):
    ExportOrdersOperator(
        task_id="export",
        destination="{{ var.value.exports }}/orders-{{ data_interval_start | ds }}.csv",
        retries=2,
        retry_delay=timedelta(minutes=5),
    )
