"""Operations in flight, alarms, single flight and concurrent outcomes. No HTTP, no jobs."""
