drop trigger sales_clock on public.sales;
drop function public.sales_clock();
