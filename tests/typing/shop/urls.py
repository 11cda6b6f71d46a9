from django.urls import path

from shop import views

urlpatterns = [
    path("order/<str:uid>", views.order),
    path("pay/<str:uid>", views.pay),
    path("why/<str:uid>", views.why),
]
