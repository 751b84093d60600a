-- Of a study, the cells of parts that it has no longer, and those of one part that it asks for no longer; what was
-- measured for them stays.
delete from study_cells
where study = $study and (
    setup not in (select unnest($setups::text[]))
    or (setup = $setup and cell not in (select unnest($cells::text[])))
)
