-- Of a part of a study, those that its file asks for no longer; what was measured for them stays.
delete from study_cells where study = $study and setup = $setup and cell not in (select unnest($cells::text[]))
