"""Stories played in a running lab."""
